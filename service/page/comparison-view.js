// What is shown, on the page and in the report, of the answer to a comparison.

import { differenceChart, differenceLimit, replicateChart } from "./comparison-charts.js";
import { comparedRows, daysOf, differencesByCondition, manyComparisons, pValue } from "./comparison.js";
import { curveChart, curveKey } from "./curve-charts.js";
import { element } from "./dom.js";
import { plural } from "./format.js";
import { groupBy } from "./samples.js";

/** Where the charts of a class stand below each other, by page.css. */
export const STACKED = "screen and (max-width: 46rem)";

const APART = "No condition was recorded on the same day as the one to compare with, so that none is compared.";
const MAX_CONDITIONS = 40; // shown beside the one that they are compared with
const MAX_SENTENCES = 8; // of a condition; of more, those without a clear difference are folded
const HOW_TO_READ =
  "Each dot is one sample, with the 95% interval of its own share; the upright line is the mean of the condition. Beside it is the difference, in percentage points, with its 95% interval: where that does not reach 0, the conditions differ. Near 0% and 100% it may be more than the distance of the means.";

/** Return the sentences, charts and curves of a comparison { answer, unit }. */
export function comparisonView({ answer: whole, unit }, classes) {
  const { answer, more } = shorten(whole);
  return [
    more > 0 && element("p", { class: "hint" }, `${plural(more, "more condition")}: see the CSV files.`),
    ...answers(answer),
    ...dayFigures(answer, unit, classes),
    ...curveFigures(answer, "day", "day", classes),
    ...curveFigures(answer, "dose", doseName(unit), classes),
  ].filter(Boolean);
}

const doseName = (unit) => (unit ? `dose (${unit})` : "dose");

// A browser takes long to draw thousands of rows, and nobody reads them.
function shorten(answer) {
  const others = [...new Set(answer.samples.map(({ condition }) => condition))].filter((it) => it !== answer.reference);
  const kept = new Set([answer.reference, ...others.slice(0, MAX_CONDITIONS)]);
  const trim = (its) => its.filter(({ condition }) => condition === null || kept.has(condition));
  const { samples, differences, curves } = answer;
  const trimmed = { samples: trim(samples), differences: trim(differences), curves: trim(curves) };
  return { answer: { ...answer, ...trimmed }, more: others.length - MAX_CONDITIONS };
}

/** Return the sentences on each condition, and what keeps a p-value away. */
export function answers(answer) {
  const apart = !answer.differences.length && new Set(answer.samples.map(({ condition }) => condition)).size > 1;
  if (apart) return [element("p", {}, APART)];
  const boxes = differencesByCondition(answer).map(({ condition, differences, counts, whyNot }) =>
    element(
      "article",
      { class: "sample", "data-condition": condition },
      element("h3", {}, `${condition} against ${answer.reference}`),
      ...sentences(differences),
      ...counts.map((count) => element("p", { class: "counts" }, count)),
      ...whyNot.map((reason) => element("p", { class: "why-not" }, reason)),
    ),
  );
  const many = manyComparisons(answer);
  return [element("div", { class: "boxes" }, ...boxes), many && element("p", { class: "hint" }, many)].filter(Boolean);
}

// Of many, those first that say something.
function sentences(differences) {
  if (differences.length <= MAX_SENTENCES) return [sentenceList(differences)];
  const clear = differences.filter(({ differs }) => differs);
  const others = differences.filter(({ differs }) => !differs);
  const none = element("p", {}, "No comparison shows a clear difference.");
  const summary = `${plural(others.length, "comparison")} without a clear difference`;
  return [
    clear.length ? sentenceList(clear) : none,
    element("details", {}, element("summary", {}, summary), sentenceList(others)),
  ];
}

const sentenceList = (differences) => element("ul", { class: "sentences" }, ...differences.map(sentence));

function sentence(difference) {
  const p = pValue(difference.p_value);
  return element(
    "li",
    { class: difference.differs && "differs" },
    difference.sentence,
    p && element("span", { class: "p-value" }, ` ${p}`),
  );
}

function dayFigures(answer, unit, classes) {
  const days = daysOf(answer);
  const figures = (day) => classFigures(answer, day, unit, classes);
  if (!days.length) return [];
  const hint = element("p", { class: "hint" }, HOW_TO_READ);
  if (days.length === 1) return [hint, figures(days[0])];
  // The last day is where cultures differ most.
  const box = (day) =>
    element("details", { class: "day", open: day === days.at(-1) }, element("summary", {}, `Day ${day}`), figures(day));
  return [hint, ...days.map(box)];
}

/** Return a figure for every class: its share in every sample of a day, and the differences. */
export function classFigures(answer, day, unit, classes) {
  const rows = comparedRows(answer, day, unit);
  // One axis, so that classes compare too.
  const limit = differenceLimit(answer.differences);
  const layout = { limit, narrow: matchMedia(STACKED).matches };
  const figures = classes.map((name, i) =>
    element(
      "figure",
      { "data-class": name },
      element("figcaption", {}, name),
      replicateChart(rows, name, i),
      differenceChart(rows, answer.reference, name, layout),
    ),
  );
  return element("div", { class: "figures" }, ...figures);
}

/** Return what the report shows of a comparison: the sentences, and the charts of the days or else of every replicate. */
export function comparisonReport({ answer: whole, unit, notes }, classes) {
  const { answer } = shorten(whole);
  const days = daysOf(answer);
  const charts =
    days.length === 1
      ? [element("p", {}, HOW_TO_READ), classFigures(answer, days[0], unit, classes)]
      : [...curveFigures(answer, "day", "day", classes), ...curveFigures(answer, "dose", doseName(unit), classes)];
  return [...answers(answer), ...notes.map((note) => element("p", {}, note)), ...charts];
}

/** Return the charts of shares over an axis, one for every class; none where no sample has a place on it. */
export function curveFigures({ curves, reference }, axis, axisName, classes) {
  const its = curves.filter((curve) => curve.axis === axis && curve.points.length);
  if (!its.length) return [];
  const named = new Set(its.map(({ condition }) => condition));
  const conditions = [...named].sort((a, b) => (b === reference) - (a === reference));
  const keys = conditions.map((condition, i) => element("li", {}, curveKey(i), ` ${condition ?? "all samples"}`));
  const byClass = groupBy(its, (curve) => curve.class);
  const figure = (name) => {
    // A condition has the same mark in the charts of all classes.
    const marked = byClass.get(name).map((curve) => ({ ...curve, mark: conditions.indexOf(curve.condition) }));
    const conclusions = [...new Set(marked.map((curve) => curve.sentence).filter(Boolean))];
    return element(
      "figure",
      {},
      element("figcaption", {}, name),
      curveChart(marked, axisName),
      ...conclusions.map((text) => element("p", { class: "conclusion" }, text)),
    );
  };
  return [
    element("h3", {}, axis === "day" ? "Over days" : "Over doses"),
    element("ul", { class: "keys" }, ...keys),
    element("div", { class: "curves" }, ...classes.filter((name) => byClass.has(name)).map(figure)),
  ];
}
