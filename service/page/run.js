// One classification of the files that the user chose: what was sent, what came back, what is missing.

import { NO_FOLDER } from "./filenames.js";

/** Most cells of a run: as many as /summarise takes. */
export const MAX_CELLS = 100_000;
/** Most cells whose pictures are kept, as they take most of the memory. */
export const MAX_PICTURES = 20_000;

export class Run {
  constructor(model, total) {
    this.model = model; // as /models describes it
    this.excludesOutside = Boolean(model.excludes_outside); // cells outside the quality gates, from the composition
    this.total = total; // files
    this.files = new Set(); // items: two zips may hold files of the same path
    this.processed = new Set(); // items that the service has answered
    this.objects = new Map(); // native file → { answered, announced, cut }: how many objects, and whether that is where it was left
    this.failures = new Map(); // item → message, of the current attempt
    this.cells = []; // as the service returns them, with `item` and `sample`
    this.versions = new Set(); // of the model, in the responses
    this.lastResponse = null;
    this.samples = new Map(); // name → { cells, summary }
    this.overall = null; // { cells, summary } of all samples together
    this.finished = false;
    this.waitReason = null;
  }

  /** Begin to send items, for the first time or again. */
  begin(items) {
    this.controller = new AbortController();
    this.failures.clear();
    this.finished = false;
    for (const item of items) this.files.add(item);
  }

  /** Take in the response to a chunk. */
  addResponse(chunk, response) {
    for (const item of chunk) if (!this.failures.has(item)) this.processed.add(item);
    this.versions.add(response.model.version);
    this.lastResponse = response;
    for (const cell of response.cells) {
      cell.item ??= chunk.find(({ path }) => path === cell.file);
      cell.sample = cell.item?.sample ?? NO_FOLDER;
      if (this.cells.length >= MAX_PICTURES) cell.thumbnail = cell.thumbnails = undefined;
      this.cells.push(cell);
    }
  }

  /** Take in the response to slices of a native file; return whether its other objects are wanted too. */
  addSlices(item, response) {
    const { answered, announced } = this.objects.get(item) ?? { answered: 0 };
    const cells = response.cells.slice(0, MAX_CELLS - this.cells.length);
    for (const cell of cells) cell.item = item;
    this.addResponse([], { ...response, cells });
    const isFull = this.cells.length >= MAX_CELLS;
    const cut = isFull && Boolean(response.next || cells.length < response.cells.length);
    this.objects.set(item, { answered: answered + cells.length, announced: response.objects ?? announced, cut });
    if (isFull || !response.next) this.processed.add(item);
    return !isFull;
  }

  /** Return how much of the run is done, from 0 to 1. */
  get fraction() {
    const started = [...this.objects.keys()].filter((item) => !this.processed.has(item));
    const parts = started.map((item) =>
      item.next ? Math.max(0, ...item.next.slices.map((s) => s.start)) / item.size : 1,
    );
    return this.total ? (this.processed.size + parts.reduce((sum, part) => sum + part, 0)) / this.total : 0;
  }

  /** Note that items could not be sent. */
  addFailure(items, error) {
    for (const item of items) this.failures.set(item, error.message);
  }

  /** End the current attempt. */
  finish() {
    this.finished = true;
  }

  /** Return whether the user cancelled the current attempt. */
  get cancelled() {
    return this.controller.signal.aborted;
  }

  /** Return why the first item could not be sent. */
  get failure() {
    return [...this.failures.values()][0] ?? "";
  }

  /** Return the items without a response. */
  get missing() {
    return [...this.files].filter((item) => !this.processed.has(item));
  }

  /** Return the cells that were classified. */
  get classified() {
    return this.cells.filter((cell) => cell.label);
  }

  /** Leave cells outside the quality gates out of the composition, or not; what was composed is not any more. */
  excludeOutside(excluded) {
    this.excludesOutside = excluded;
    this.samples.clear();
    this.overall = null;
  }

  /** Return the images that could not be read. */
  get unreadable() {
    return this.cells.filter((cell) => cell.error);
  }
}
