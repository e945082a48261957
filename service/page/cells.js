// The section of the single cells: filters, gallery and the chosen cell.

import { showCell, showNoCell } from "./detail.js";
import { byId } from "./dom.js";
import { plural } from "./format.js";
import { Gallery } from "./gallery.js";
import { arrange } from "./labelling.js";
import { selectCells } from "./ordering.js";
import { state } from "./state.js";
import { initTeaching } from "./teaching.js";
import { initTracks, showTracks } from "./track-strips.js";

let gallery = null;

/** Connect the gallery and the filters. */
export function initCells() {
  gallery = new Gallery(byId("gallery"), byId("canvas"), (cell) => showCell(cell, state.run));
  initTeaching(gallery, showCells);
  initTracks();
  showNoCell();
  for (const id of ["order", "by-class", "by-verdict", "by-quality", "by-sample"]) {
    byId(id).addEventListener("change", () => state.run && showCells(state.run));
  }
}

/** Show the cells of a run that pass the filters. */
export function showCells(run) {
  const selected = selectCells(run.cells, run.model.classes, {
    order: byId("order").value,
    label: byId("by-class").value,
    verdict: byId("by-verdict").value,
    sample: byId("by-sample").value,
    quality: byId("by-quality").value,
    queue: byId("by-queue").checked,
  });
  const cells = arrange(selected);
  byId("cell-count").textContent = plural(cells.length, "cell");
  gallery.show(cells, run.model);
  showTracks(run, selected);
}
