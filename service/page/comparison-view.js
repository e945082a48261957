// What is shown, on the page and in the report, of the answer to a comparison.

import { differenceChart, replicateChart } from "./comparison-charts.js";
import { comparedRows, daysOf, differencesByCondition, manyComparisons, pValue } from "./comparison.js";
import { curveChart, curveKey } from "./curve-charts.js";
import { element } from "./dom.js";
import { groupBy } from "./samples.js";

const HOW_TO_READ =
  "Each dot is one sample, with the 95% interval of its own share; the upright line is the mean of the condition. On the right is the difference from the condition that is compared with, in percentage points, with its 95% interval: where the interval does not reach the line at 0, the conditions differ.";

/** Return the sentences, charts and curves of a comparison { answer, unit }. */
export function comparisonView({ answer, unit }, classes) {
  const { curves } = answer;
  return [
    ...answers(answer),
    element("p", { class: "hint" }, HOW_TO_READ),
    ...dayFigures(answer, unit, classes),
    ...curveFigures(curves, "day", "day", classes),
    ...curveFigures(curves, "dose", doseName(unit), classes),
  ];
}

/** Return what an axis of doses is called. */
export const doseName = (unit) => (unit ? `dose (${unit})` : "dose");

/** Return the sentences on each condition, and what keeps a p-value away. */
export function answers(answer) {
  const boxes = differencesByCondition(answer).map(({ condition, differences, counts, whyNot }) =>
    element(
      "article",
      { class: "sample", "data-condition": condition },
      element("h3", {}, `${condition} against ${answer.reference}`),
      element("ul", { class: "sentences" }, ...differences.map(sentence)),
      ...counts.map((count) => element("p", { class: "counts" }, count)),
      ...whyNot.map((reason) => element("p", { class: "why-not" }, reason)),
    ),
  );
  const many = manyComparisons(answer);
  return [element("div", { class: "boxes" }, ...boxes), many && element("p", { class: "hint" }, many)].filter(Boolean);
}

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
  if (days.length < 2) return [figures(days[0])];
  // The last day is where cultures differ most.
  return days.map((day) =>
    element("details", { class: "day", open: day === days.at(-1) }, element("summary", {}, `Day ${day}`), figures(day)),
  );
}

/** Return a figure for every class: its share in every sample of a day, and the differences. */
export function classFigures(answer, day, unit, classes) {
  const rows = comparedRows(answer, day, unit);
  const figures = classes.map((name, i) =>
    element(
      "figure",
      { "data-class": name },
      element("figcaption", {}, name),
      replicateChart(rows, name, i),
      differenceChart(rows, answer.reference, name),
    ),
  );
  return element("div", { class: "figures" }, ...figures);
}

/** Return the charts of shares over an axis, one for every class; none where no sample has a place on it. */
export function curveFigures(curves, axis, axisName, classes) {
  const its = curves.filter((curve) => curve.axis === axis && curve.points.length);
  if (!its.length) return [];
  const conditions = [...new Set(its.map(({ condition }) => condition))];
  const keys = conditions.map((condition, i) => element("li", {}, curveKey(i), ` ${condition ?? "all samples"}`));
  const byClass = groupBy(its, (curve) => curve.class);
  const sentences = [...new Set(its.map((curve) => curve.sentence).filter(Boolean))];
  return [
    element("h3", {}, axis === "day" ? "Over days" : "Over doses"),
    ...sentences.map((text) => element("p", { class: "curve-sentence" }, text)),
    element("ul", { class: "keys" }, ...keys),
    element(
      "div",
      { class: "curves" },
      ...classes
        .filter((name) => byClass.has(name))
        .map((name) => {
          // A condition has the same mark in the charts of all classes.
          const marked = byClass.get(name).map((curve) => ({ ...curve, mark: conditions.indexOf(curve.condition) }));
          return element("figure", {}, element("figcaption", {}, name), curveChart(marked, axisName));
        }),
    ),
  ];
}
