// Which cells the gallery shows, and in which order.

import { isOutside } from "./quality.js";

const confidence = (cell) => cell.probabilities[cell.label];

// Each a number, the smallest first: to compare cells themselves takes ten times as long, of 100,000 a second.
const KEYS = {
  class: (classes) => {
    const places = new Map(classes.map((name, place) => [name, place]));
    return (cell) => 2 * places.get(cell.label) - confidence(cell);
  },
  unsure: () => confidence,
  sure: () => (cell) => -confidence(cell),
  odd: () => (cell) => -cell.distance,
};

function sortBy(cells, key) {
  const keys = Float64Array.from(cells, key);
  const places = Uint32Array.from(cells.keys()).sort((a, b) => keys[a] - keys[b] || a - b);
  return Array.from(places, (place) => cells[place]);
}

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
  return sortBy(cells.filter(passes), queue ? (cell) => cell.queued : KEYS[order](classes));
}
