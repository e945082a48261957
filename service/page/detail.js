// The chosen cell: its image, its activation map, its probabilities, and a way to correct it.

import { forTask, request } from "./api.js";
import { correctionForm } from "./correction.js";
import { byId, element, picture } from "./dom.js";
import { otherChannels, partsOf } from "./files.js";
import { percent } from "./format.js";
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
  const note = element("p", { class: "hint" });
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
  if (!item) return;
  if (item.gone) {
    note.textContent =
      "These results were kept without the image files: to see its activation map, classify them again.";
    byId("detail").append(correctionForm(cell, null, run.model));
    return;
  }
  if (item.native) {
    note.textContent =
      "Cells of a native file have no activation maps here. To train on them, label them in a table or in IDEAS.";
    byId("detail").append(correctionForm(cell, null, run.model));
    return;
  }
  if (cell.page != null) {
    note.textContent = "Files with several pages have no activation maps.";
    byId("detail").append(correctionForm(cell, null, run.model));
    return;
  }
  byId("detail").append(correctionForm(cell, item, run.model));
  timer = setTimeout(() => showMap(cell, item, run.model.task, { box, note }), HOVER_MS);
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

async function showMap(cell, item, task, { box, note }) {
  try {
    cell.map ??= await requestMap(item, task);
    if (!box.isConnected) return;
    box.append(picture(cell.map.png, { class: "map", alt: `Activation map for ${cell.map.label}` }));
    note.textContent = `Red areas are evidence for ${cell.map.label}, blue areas against it.`;
  } catch {
    note.textContent = "The activation map could not be loaded.";
  }
}

async function requestMap(item, task) {
  const body = new FormData();
  for (const { channel, item: file } of partsOf(item)) {
    body.append(channel == null ? "image" : `image_${channel}`, await file.read(), file.path);
  }
  const response = await request(forTask("classify?explain=true", task), { method: "POST", body });
  return (await response.json()).activation_map;
}
