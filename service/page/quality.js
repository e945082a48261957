// The quality of cells: which are outside the gates around good single cells, and why.

/** What a reason of the service is called on the page. */
export const REASONS = {
  focus: "out of focus",
  doublet: "more than one cell",
  debris: "debris",
  clipped: "cut off by the border",
  saturated: "overexposed",
};

/** Return whether a cell is outside a gate; models without gates say nothing of it. */
export const isOutside = ({ quality }) => Boolean(quality?.length);

/** Return the cells that count in a composition. */
export const composedCells = (cells, excludesOutside) =>
  excludesOutside ? cells.filter((cell) => !isOutside(cell)) : cells;

/**
 * Return how many cells are outside, and reason → cells; nothing where the model has no gates.
 * `cells` may be the counts of a shared result.
 */
export function countOutside(cells) {
  if (cells.outside) return cells.outside;
  const judged = cells.filter(({ quality }) => quality);
  if (!judged.length) return {};
  const reasons = Object.fromEntries(Object.keys(REASONS).map((reason) => [reason, 0]));
  for (const { quality } of judged) for (const reason of quality) reasons[reason]++;
  return { outside: judged.filter(isOutside).length, outside_reasons: reasons };
}
