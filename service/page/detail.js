// The chosen cell: its image, its activation map, its probabilities, and a way to correct it.

import { correctionForm } from "./correction.js";
import { byId, element, picture } from "./dom.js";
import { otherChannels } from "./files.js";
import { percent } from "./format.js";
import { askButton, bytesToAskFor, drawMap, mapOf, reasonWithoutMap } from "./maps.js";
import { qualitySentence, shownPath, verdictSentence } from "./sentences.js";

const HOVER_MS = 150; // a pointer that only passes over cells does not request their maps

const HINT =
  "Select a cell with the pointer or the arrow keys to see the probability of each class and an activation map, which shows what the network responded to.";

let timer = 0;
let shown = null;

/** Show how to select a cell, instead of one. */
export function showNoCell() {
  clearTimeout(timer);
  shown = null;
  byId("detail").replaceChildren(element("p", {}, HINT));
}

/** Show a cell of a run. */
export function showCell(cell, run) {
  // The gallery is drawn again as results come in, while a person may be filling in the form.
  if (cell === shown) return;
  shown = cell;
  clearTimeout(timer);
  const { item } = cell;
  const box = element("div", { class: "cell-image" }, picture(cell.thumbnail, { alt: `Cell ${shownPath(cell)}` }));
  const note = element("div", { class: "map-note" });
  byId("detail").replaceChildren(
    box,
    ...otherPictures(cell, run.model),
    note,
    element("h3", {}, cell.label),
    element("p", { class: "verdict" }, verdictSentence(cell)),
    ...[qualitySentence(cell)].filter(Boolean).map((sentence) => element("p", { class: "quality" }, sentence)),
    element("p", { class: "path" }, origin(cell)),
    probabilityList(cell.probabilities),
    ...(cell.warnings ?? []).map((warning) => element("p", { class: "hint" }, warning.message)),
  );
  // What is one of many in a file is named by the id of its answer alone.
  const isFile = item && !item.gone && !item.native && cell.page == null;
  byId("detail").append(correctionForm(cell, isFile ? item : null, run.model));
  const reason = reasonWithoutMap(cell);
  if (reason) {
    note.append(element("p", { class: "hint" }, reason));
    return;
  }
  const show = () => showMap(cell, run, { box, note });
  const size = bytesToAskFor(cell);
  if (size && !cell.map) note.append(...askButton(cell, size, show));
  else timer = setTimeout(show, HOVER_MS);
}

// Beside the first channel, over which the map is drawn.
function otherPictures(cell, model) {
  const others = otherChannels(cell, model);
  if (!others.length) return [];
  const figures = others.map(([channel, png]) =>
    element(
      "figure",
      {},
      picture(png, { alt: `Channel ${channel}` }),
      element("figcaption", {}, `${model.channels[channel]}, channel ${channel}`),
    ),
  );
  return [element("div", { class: "channels" }, ...figures)];
}

/** Say where a cell comes from: its file, page and object number. */
export function origin(cell) {
  const { page, object } = cell;
  return [shownPath(cell), page == null ? null : `page ${page + 1}`, object == null ? null : `object ${object}`]
    .filter(Boolean)
    .join(", ");
}

function probabilityList(probabilities) {
  const sorted = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const rows = sorted.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, percent(value)),
    element(
      "dd",
      { class: "wide" },
      element("meter", { min: 0, max: 1, value, "aria-label": `Probability of ${name}` }),
    ),
  ]);
  return element("dl", {}, ...rows);
}

async function showMap(cell, run, { box, note }) {
  note.replaceChildren(element("p", { class: "hint" }, "The activation map is being drawn …"));
  try {
    const map = await mapOf(cell, run.model.task);
    if (box.isConnected) drawMap(map, run.lastResponse.model.version, { box, note });
  } catch (error) {
    note.replaceChildren(element("p", { class: "hint" }, `The activation map could not be loaded: ${error.message}.`));
  }
}
