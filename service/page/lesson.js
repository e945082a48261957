// What a person teaches: the classes, the labels of cells, and what the service says of them. Nothing is drawn here.

import { percent, plural } from "./format.js";

/** Most cells of a lesson; the service takes 5,000. */
export const MAX_CELLS = 2_000;
/** Most classes: each has a key, from 1 to 9. */
export const MAX_CLASSES = 9;

export class LabelSet {
  constructor() {
    this.classes = [];
    this.labels = new Map(); // cell → class
    this.ofImages = new Map(); // image_hash → class, also of cells that are not here yet
    this.changed = false; // since it was kept
    this.marked = new Set(); // cells that the next label is for
    this.described = new Map(); // image_hash → as /teach/cells describes it
    this.version = null; // of the model that described them
    this.answer = null; // of /teach/head
  }

  /** Add a class; return why it cannot be added, "" if it was. */
  addClass(name) {
    const trimmed = name.trim();
    if (!trimmed) return "Write the name of a class.";
    if (this.classes.includes(trimmed)) return `There is a class ${trimmed} already.`;
    if (this.classes.length >= MAX_CLASSES) return `A lesson has at most ${MAX_CLASSES} classes here.`;
    this.classes.push(trimmed);
    return "";
  }

  /** Give cells a class; null takes it away. */
  label(cells, name) {
    for (const cell of cells) {
      if (name === null) this.labels.delete(cell);
      else this.labels.set(cell, name);
      if (!cell.image_hash) continue;
      if (name === null) this.ofImages.delete(cell.image_hash);
      else this.ofImages.set(cell.image_hash, name);
    }
    this.changed = true;
    this.marked.clear();
  }

  /** Return what is kept: the classes, and the label of each image. */
  pack() {
    return { classes: this.classes, labels: [...this.ofImages] };
  }

  /** Give cells the labels that their images had; `kept` as `pack` returned it, null if none. */
  takeUp(cells, kept) {
    const isNew = !this.classes.length && !this.ofImages.size;
    if (isNew && kept) {
      const labels = new Map(kept.labels);
      // Of other cells, the classes too are of no use here.
      if (!cells.some(({ image_hash }) => labels.has(image_hash))) return;
      this.classes = [...kept.classes];
      this.ofImages = labels;
    }
    if (!this.ofImages.size) return;
    for (const cell of cells) {
      const label = this.ofImages.get(cell.image_hash);
      if (label && !this.labels.has(cell)) this.labels.set(cell, label);
    }
  }

  /** Mark a cell, or not any more. */
  toggle(cell) {
    if (!this.marked.delete(cell)) this.marked.add(cell);
  }

  /** Return [class, labels] of each class. */
  get counts() {
    const of = (name) => [...this.labels.values()].filter((label) => label === name).length;
    return this.classes.map((name) => [name, of(name)]);
  }

  /** Return the cells to send: all that have a label, then others, up to MAX_CELLS; one of each image. */
  choose(cells) {
    const seen = new Set();
    return [...this.labels.keys(), ...cells]
      .filter((cell) => cell.image_hash && !seen.has(cell.image_hash) && seen.add(cell.image_hash))
      .slice(0, MAX_CELLS);
  }

  /** Take in the response of /teach/cells; what another version described is of no use any more. */
  addDescribed({ model, cells }) {
    if (this.version !== model.version) this.described.clear();
    this.version = model.version;
    for (const cell of cells) this.described.set(cell.image_hash, cell);
  }

  /** Return the body of /teach/head for these cells; those that could not be described are left out. */
  body(cells, fields = {}) {
    const sent = cells
      .filter(({ image_hash }) => this.described.has(image_hash))
      .map((cell) => {
        const { image_hash, height, width, bit_depth, vector } = this.described.get(cell.image_hash);
        const label = this.labels.get(cell) ?? "";
        return { id: image_hash, label, sample: cell.sample ?? "", image_hash, height, width, bit_depth, vector };
      });
    return { version: this.version, cells: sent, ...fields };
  }

  /** Put the cells that should be labelled next first, in their order, and leave labelled ones out. */
  nextFirst(cells) {
    const place = new Map((this.answer?.next ?? []).map((hash, i) => [hash, i]));
    const rank = (cell) => place.get(cell.image_hash) ?? place.size;
    return cells.filter((cell) => !this.labels.has(cell)).sort((a, b) => rank(a) - rank(b));
  }

  /** Return the cells whose labels are contradicted, the most strongly first. */
  contradicted(cells) {
    const places = new Map((this.answer?.lesson?.contradicted ?? []).map(({ id }, i) => [id, i]));
    return cells
      .filter((cell) => this.labels.has(cell) && places.has(cell.image_hash))
      .sort((a, b) => places.get(a.image_hash) - places.get(b.image_hash));
  }

  /** Label the cells of a native file by populations, [{ name, spans }]; return how many got one. */
  takePopulations(cells, populations) {
    let count = 0;
    for (const { name, spans } of populations) {
      if (!this.classes.includes(name) && this.addClass(name)) continue;
      const inside = cells.filter(({ object }) => spans.some(([first, last]) => object >= first && object <= last));
      this.label(inside, name);
      count += inside.length;
    }
    return count;
  }
}

/** Return why the cells of a run cannot be taught, "" where they can. */
export function reasonAgainstTeaching({ kept }, isPrivate) {
  if (isPrivate) {
    return "To learn, the service has to see the cells, and nothing is sent to it while “Do not send my images” is on. Turn that off and classify the cells again.";
  }
  return kept
    ? "These results were kept without the image files, and to learn the service has to see the cells: classify them again. Labels that you gave to them come back then."
    : "";
}

const READS = {
  embedding: "what the network sees",
  features: "simple features of the cell",
  both: "what the network sees and simple features of the cell",
};

/** Say how right a lesson is, line by line. */
export function lessonLines({ lesson, needs }) {
  if (!lesson) return [`Nothing is learned yet: ${needs}.`];
  const { accuracy, simple, left_out: leftOut, reads } = lesson;
  const ends = accuracy.low === null ? "" : ` (${percent(accuracy.low)} to ${percent(accuracy.high)})`;
  const recalls = lesson.classes.map(
    ({ label, labels, recall }) => `${label} ${percent(recall)} of ${plural(labels, "label")}`,
  );
  return [
    `Balanced accuracy ${percent(accuracy.value)}${ends}, by cross-validation over ${leftOut}. It reads ${READS[reads]}; simple features alone reach ${percent(simple.value)}.`,
    `Recognised: ${recalls.join(", ")}.`,
    ...(accuracy.why ? [`There is no interval: ${accuracy.why}.`] : []),
    ...lesson.shortcuts.filter(({ suspicious }) => suspicious).map(({ words }) => words),
    ...(lesson.contradicted.length
      ? [`${plural(lesson.contradicted.length, "label")} should be looked at again: the other labels contradict.`]
      : []),
  ];
}
