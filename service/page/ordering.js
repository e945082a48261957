// Which cells the gallery shows, and in which order.

const confidence = (cell) => cell.probabilities[cell.label];

const ORDERS = {
  class: (classes) => (a, b) => classes.indexOf(a.label) - classes.indexOf(b.label) || confidence(b) - confidence(a),
  unsure: () => (a, b) => confidence(a) - confidence(b),
  sure: () => (a, b) => confidence(b) - confidence(a),
  odd: () => (a, b) => b.distance - a.distance,
};

/** Return the classified cells that pass the filters, sorted; an empty filter lets all pass. */
export function selectCells(cells, classes, { order, label, verdict, sample }) {
  const passes = (cell) =>
    cell.label &&
    (!label || cell.label === label) &&
    (!verdict || cell.verdict === verdict) &&
    (!sample || cell.sample === sample);
  return cells.filter(passes).sort(ORDERS[order](classes));
}
