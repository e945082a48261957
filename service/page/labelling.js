// Label cells in the gallery: several at a time, with the keyboard, a pointer or fingers.

import { byId, element } from "./dom.js";
import { plural } from "./format.js";
import { keepLabels, readLabels } from "./kept-labels.js";
import { LabelSet, reasonAgainstTeaching } from "./lesson.js";
import { isPrivate } from "./private/switch.js";
import { state } from "./state.js";

let labels = new LabelSet();
let labelsOf = null; // the run that they are of
let labelled = 0; // of how many of its cells the labels have come back
let gallery = null;
let redraw = () => {};

const reason = () => reasonAgainstTeaching(state.run, isPrivate());
const isOpen = () => byId("teach").open && state.run !== null && !reason();

/** Return the cells of a run as the labelling mode shows them. */
export function arrange(cells) {
  startAnew();
  if (!isOpen()) return cells;
  const shown = byId("teach-show").value;
  if (shown === "next") return labels.nextFirst(cells);
  if (shown === "contradicted") return labels.contradicted(cells);
  return shown === "labelled" ? cells.filter((cell) => labels.labels.has(cell)) : cells;
}

function decorate(tile, cell) {
  if (!isOpen()) return;
  const label = labels.labels.get(cell);
  const marked = labels.marked.has(cell);
  tile.classList.toggle("marked", marked);
  const said = [marked ? "marked" : "", label ? `labelled ${label}` : ""].filter(Boolean).join(", ");
  if (said) tile.setAttribute("aria-label", `${said}: ${tile.getAttribute("aria-label")}`);
  if (label) tile.append(element("span", { class: "taught" }, label));
}

// The labels of a run that was left are gone with it, but for cells that come again.
function startAnew() {
  const isNew = labelsOf !== state.run;
  if (isNew) {
    [labels, labelsOf, labelled] = [new LabelSet(), state.run, 0];
    byId("teach-said").replaceChildren();
    byId("teach-show").value = "all";
  }
  const count = state.run?.cells.length ?? 0;
  if (count > labelled && isOpen()) {
    labels.takeUp(state.run.classified, readLabels());
    labelled = count;
  } else if (!isNew) return;
  drawControls();
}

/** Draw the classes and the gallery again. */
export function refresh() {
  startAnew();
  if (labels.changed) keepLabels(labels.pack());
  labels.changed = false;
  drawControls();
  redraw();
}

function drawControls() {
  const impossible = state.run ? reason() : "";
  byId("teach-impossible").textContent = impossible;
  byId("teach-impossible").hidden = !impossible;
  byId("teach-controls").hidden = Boolean(impossible);
  const counts = labels.counts.map(([name, count], i) => {
    const button = element("button", { type: "button", class: "quiet" }, `${i + 1} ${name} (${count})`);
    button.addEventListener("click", () => give(name));
    return button;
  });
  byId("teach-classes").replaceChildren(...counts);
  byId("teach-clear").hidden = !labels.labels.size;
  byId("teach-marked").textContent = labels.marked.size ? `${plural(labels.marked.size, "cell")} marked` : "";
  byId("teach-save").hidden = !labels.answer?.lesson;
}

/** Give a class to the marked cells, or to the selected one, and go on to the next. */
function give(name) {
  const selected = gallery.cells[gallery.selected];
  const cells = labels.marked.size ? [...labels.marked] : selected ? [selected] : [];
  const goesOn =
    !labels.marked.size && byId("teach-show").value === "all" && gallery.selected + 1 < gallery.cells.length;
  labels.label(cells, name);
  const next = goesOn ? gallery.selected + 1 : gallery.selected;
  refresh();
  if (cells.length && gallery.cells[next]) {
    gallery.scrollTo(next);
    gallery.select(next);
  }
}

const steps = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]);
let before = -1;

function noteKey() {
  before = gallery.selected;
}

/** Return what a key does in the labelling mode; null for a key that does nothing. */
function actionOf({ key, shiftKey }) {
  const cell = gallery.cells[gallery.selected];
  if (key === " ") return cell ? () => labels.toggle(cell) : null;
  if (key === "Escape") return () => labels.marked.clear();
  if (key === "0" || key === "Delete") return () => give(null);
  if (steps.has(key)) return shiftKey ? () => markBetween(before, gallery.selected) : null;
  const name = /^[1-9]$/.test(key) && labels.classes[key - 1];
  return name ? () => give(name) : null;
}

function handleKey(event) {
  if (!isOpen() || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = actionOf(event);
  if (!act) return;
  event.preventDefault();
  act();
  refresh();
}

function markBetween(first, last) {
  const [low, high] = [Math.min(first, last), Math.max(first, last)];
  for (let i = Math.max(0, low); i <= high; i++) labels.marked.add(gallery.cells[i]);
}

let anchor = -1;

function handleClick(event) {
  const tile = event.target.closest(".cell");
  if (!tile || !isOpen()) return;
  const index = Number(tile.dataset.index);
  if (event.shiftKey && anchor >= 0) markBetween(anchor, index);
  else labels.toggle(gallery.cells[index]);
  anchor = index;
  refresh();
}

/** Return the labels of the run on display. */
export const currentLabels = () => labels;

/** Connect the labelling mode with the gallery; `draw` shows the cells of the run again. */
export function initLabelling(shown, draw) {
  gallery = shown;
  redraw = () => {
    gallery.clear();
    if (state.run) draw(state.run);
  };
  gallery.decorate = decorate;
  byId("gallery").addEventListener("keydown", noteKey, { capture: true });
  byId("gallery").addEventListener("keydown", handleKey);
  byId("canvas").addEventListener("click", handleClick);
  byId("teach").addEventListener("toggle", refresh);
  byId("teach-show").addEventListener("change", refresh);
  byId("teach-clear").addEventListener("click", () => give(null));
}
