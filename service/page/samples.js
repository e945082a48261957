// Cells by sample and by verdict.

/** What a verdict of the service is called on the page. */
export const VERDICTS = { sure: "sure", unsure: "unsure", unlike_training: "unlike the training cells" };

/** Return a Map of key → items, in the order in which the keys first appear. */
export function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) {
    if (!groups.has(key(item))) groups.set(key(item), []);
    groups.get(key(item)).push(item);
  }
  return groups;
}

/** Return verdict → number of cells; `cells` may be the counts of a shared result. */
export function countVerdicts(cells) {
  if (cells.verdicts) return cells.verdicts;
  const counts = Object.fromEntries(Object.keys(VERDICTS).map((verdict) => [verdict, 0]));
  for (const cell of cells) counts[cell.verdict]++;
  return counts;
}

/** Return a Map of coarse class → number of cells whose class is unsure, but not that; shared counts do not have it. */
export function countCoarse(cells) {
  const unsure = cells.verdicts ? [] : cells.filter(({ verdict, coarse }) => verdict === "unsure" && coarse);
  return new Map([...groupBy(unsure, ({ coarse }) => coarse.label)].map(([label, of]) => [label, of.length]));
}

/** Return whether most cells are unlike the training cells: the shares of the few others say nothing of the sample. */
export const isMostlyUnlike = (cells) => countVerdicts(cells).unlike_training > cells.length / 2;
