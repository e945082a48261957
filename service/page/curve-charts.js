// Charts of shares over days or doses, as SVG.

import { line, text, TICKS } from "./comparison-charts.js";
import { svg } from "./dom.js";
import { percent } from "./format.js";

const CURVE = { left: 46, top: 10, width: 380, height: 170, right: 18 };
const LOG_FROM = 20; // doses that differ by more than this factor are drawn on a logarithmic axis
const MAX_TICKS = 8;
const SHAPES = 4;

/** Return { position, ticks, zero } of an axis over these numbers: position(x) is from 0 to 1, logarithmic for doses far apart. */
export function numberAxis(values, logarithmic) {
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  const smallest = sorted.find((value) => value > 0);
  const isLog = logarithmic && smallest !== undefined && sorted[0] >= 0 && sorted.at(-1) / smallest > LOG_FROM;
  // Zero has no logarithm; it stands one decade before the smallest.
  const scale = (value) => (isLog ? Math.log10(value || smallest / 10) : value);
  const [first, last] = [scale(sorted[0]), scale(sorted.at(-1))];
  const position = (value) => (last > first ? (scale(value) - first) / (last - first) : 0.5);
  const every = Math.ceil(sorted.length / MAX_TICKS);
  return { position, ticks: sorted.filter((_, i) => i % every === 0), isLog };
}

/** Draw the share of a class over days or doses, a line for each of `curves`, as /compare answers them, with the `mark` of its condition. */
export function curveChart(curves, axisName) {
  const { left, top, width, height, right } = CURVE;
  const all = curves.flatMap((curve) => curve.points);
  const { position, ticks } = numberAxis(
    all.map((point) => point.x),
    curves[0].axis === "dose",
  );
  const x = (value) => left + position(value) * width;
  const y = (share) => top + (1 - share) * height;
  const told = curves.map(({ condition, points: its }) => {
    return `${condition ?? "all samples"}: ${its.map((point) => `${percent(point.share)} at ${point.x}`).join(", ")}`;
  });
  return svg(
    "svg",
    { class: "comparison", viewBox: `0 0 ${left + width + right} ${top + height + 44}`, role: "img" },
    svg("title", {}, `Share of ${curves[0].class} by ${axisName}. ${told.join("; ")}`),
    ...TICKS.flatMap((tick) => [
      line(left, left + width, y(tick), y(tick), "axis"),
      text(left - 6, y(tick) + 4, percent(tick), { class: "soft small", "text-anchor": "end" }),
    ]),
    ...ticks.map((tick) =>
      text(x(tick), top + height + 18, String(tick), { class: "soft small", "text-anchor": "middle" }),
    ),
    text(left + width / 2, top + height + 38, axisName, { class: "soft", "text-anchor": "middle" }),
    ...curves.flatMap((curve) => curveLine(curve, x, y)),
  );
}

function curveLine({ condition, points: its, mark: i }, x, y) {
  const path = its.map((point) => `${x(point.x)},${y(point.share)}`).join(" ");
  const shift = (i % SHAPES) * 1.5; // intervals of several conditions at the same day stand beside each other
  return [
    svg("polyline", { class: `curve line-${i % 8} dash-${i % SHAPES}`, points: path }),
    ...its.flatMap((point) => [
      ...(point.low == null
        ? []
        : [line(x(point.x) + shift, x(point.x) + shift, y(point.low), y(point.high), `curve line-${i % 8}`)]),
      marker(i, x(point.x), y(point.share), `${condition ?? "all samples"}: ${percent(point.share)} at ${point.x}`),
    ]),
  ];
}

/** Return the mark of the i-th condition: conditions differ by shape as well as by colour. */
function marker(i, x, y, told = "") {
  const shapes = [
    () => svg("circle", { cx: x, cy: y, r: 5 }),
    () => svg("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }),
    () => svg("polygon", { points: `${x},${y - 6} ${x + 6},${y + 5} ${x - 6},${y + 5}` }),
    () => svg("polygon", { points: `${x},${y - 6} ${x + 6},${y} ${x},${y + 6} ${x - 6},${y}` }),
  ];
  const mark = shapes[i % SHAPES]();
  mark.setAttribute("class", `fill-${i % 8}`);
  if (told) mark.append(svg("title", {}, told));
  return mark;
}

/** Draw the key of the i-th condition of a chart of curves. */
export function curveKey(i) {
  return svg(
    "svg",
    { class: "key", viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" },
    svg("polyline", { class: `curve line-${i % 8} dash-${i % SHAPES}`, points: "0,7 34,7" }),
    marker(i, 17, 7),
  );
}
