// Which cells the gallery shows, and in which order.

import { isOutside } from "./quality.js";

const confidence = (cell) => cell.probabilities[cell.label];

const ORDERS = {
  class: (classes) => (a, b) => classes.indexOf(a.label) - classes.indexOf(b.label) || confidence(b) - confidence(a),
  unsure: () => (a, b) => confidence(a) - confidence(b),
  sure: () => (a, b) => confidence(b) - confidence(a),
  odd: () => (a, b) => b.distance - a.distance,
};

function hasQuality(cell, quality) {
  if (!quality) return true;
  if (quality === "inside") return !isOutside(cell);
  return quality === "outside" ? isOutside(cell) : cell.quality?.includes(quality);
}

/** Return the classified cells that pass the filters, sorted; an empty filter lets all pass. */
export function selectCells(cells, classes, { order, label, verdict, sample, quality, queue }) {
  const passes = (cell) =>
    cell.label &&
    (!queue || cell.queued !== undefined) &&
    (!label || cell.label === label) &&
    (!verdict || cell.verdict === verdict) &&
    (!sample || cell.sample === sample) &&
    hasQuality(cell, quality);
  // Whoever labels what is easy first would make the model look better than it is.
  return cells.filter(passes).sort(queue ? (a, b) => a.queued - b.queued : ORDERS[order](classes));
}
