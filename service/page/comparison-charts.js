// Charts of a comparison as SVG: every replicate by condition, and the differences.

import { svg } from "./dom.js";
import { interval, percent } from "./format.js";

const ROW = 34;
const TOP = 8;
const AXIS = 42; // height of the tick labels and of the name of the axis
const SHARES = { left: 128, width: 290, right: 18, maxName: 17 };
// As wide as the other, so that their rows stand beside each other.
const DIFFERENCES = { left: 18, width: 262, right: 156 };
// Below it, where each has to name its rows.
const NARROW_DIFFERENCES = { left: 128, width: 172, right: 136 };
/** Shares that the axes name. */
export const TICKS = [0, 0.25, 0.5, 0.75, 1];
const LIMITS = [0.05, 0.1, 0.2, 0.5, 1]; // ends of the axis of differences

/** Return a line of an SVG. */
export const line = (x1, x2, y1, y2, name) => svg("line", { class: name, x1, x2, y1, y2 });
/** Return a text of an SVG. */
export const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);
const shorten = (name, length) => (name.length > length ? `${name.slice(0, length - 1)}…` : name);

function verticalTick(x, height, label) {
  return [
    line(x, x, TOP - 4, height - AXIS + 2, "axis"),
    text(x, height - AXIS + 18, label, { class: "soft small", "text-anchor": "middle" }),
  ];
}

const rowLabel = (left, y, name) => text(left - 8, y + 5, shorten(name, SHARES.maxName), { "text-anchor": "end" });

const axisName = (x, height, name) => text(x, height - 5, name, { class: "soft small", "text-anchor": "middle" });

const rowLines = (count, from, to) =>
  Array.from({ length: count - 1 }, (_, i) => line(from, to, TOP + (i + 1) * ROW, TOP + (i + 1) * ROW, "axis"));

/** Format a difference between shares in percentage points: +12, −3, 0. */
export function points(difference) {
  const rounded = Math.round(difference * 100);
  if (!rounded) return "0";
  return `${rounded > 0 ? "+" : "−"}${Math.abs(rounded)}`;
}

/** Format the interval of a difference in percentage points; says so where there is none. */
export const pointsInterval = (low, high) => (low == null ? "no interval" : `${points(low)} to ${points(high)}`);

/**
 * Draw the share of a class in every sample, a dot with its interval each, in a row for each condition with a mark at
 * their mean. `rows` are those of `comparedRows`; `index` is of the class.
 */
export function replicateChart(rows, name, index) {
  const { left, width, right } = SHARES;
  const height = TOP + rows.length * ROW + AXIS;
  const x = (share) => left + share * width;
  const told = rows.map((row) => {
    return `${row.name}: ${row.samples.map(({ class_shares: shares }) => percent(shares[name].share)).join(", ")}`;
  });
  return svg(
    "svg",
    { class: "comparison", viewBox: `0 0 ${left + width + right} ${height}`, role: "img" },
    svg("title", {}, `Share of ${name} in each sample. ${told.join("; ")}`),
    ...rowLines(rows.length, left - 110, left + width),
    ...TICKS.flatMap((tick) => verticalTick(x(tick), height, percent(tick))),
    axisName(left + width / 2, height, `${name} in each sample`),
    ...rows.flatMap(({ name: rowName, samples }, i) => {
      const y = TOP + i * ROW;
      const mean = samples.reduce((sum, { class_shares: shares }) => sum + shares[name].share, 0) / samples.length;
      const step = ROW / (samples.length + 1);
      return [
        rowLabel(left, y + ROW / 2, rowName),
        ...samples.flatMap((sample, place) => replicate(sample, name, x, y + (place + 1) * step, index)),
        line(x(mean), x(mean), y + 4, y + ROW - 4, "mean"),
      ];
    }),
  );
}

function replicate({ sample, class_shares: shares }, name, x, y, index) {
  const { share, low, high } = shares[name];
  const told = `${sample}: ${percent(share)} ${name} (${interval(low, high)})`;
  const dot = svg("circle", { class: `fill-${index % 8}`, cx: x(share), cy: y, r: 4.5 }, svg("title", {}, told));
  return [line(x(low), x(high), y, y, "own-interval"), dot];
}

/** Return the end of the axis that holds all differences and their intervals. */
export function differenceLimit(differences) {
  const largest = Math.max(
    ...differences.flatMap(({ difference, low, high }) => [difference, low ?? 0, high ?? 0].map(Math.abs)),
  );
  return LIMITS.find((limit) => largest <= limit) ?? 1;
}

/** Draw the difference of each row of `comparedRows` from the reference with its interval, beside `replicateChart`, or below it where the page is narrow; the axis ends at `limit`. */
export function differenceChart(rows, reference, name, { limit, narrow }) {
  const { left, width, right } = narrow ? NARROW_DIFFERENCES : DIFFERENCES;
  const height = TOP + rows.length * ROW + AXIS;
  const differences = rows.map((row) => row.find(name));
  const x = (value) => left + ((Math.max(-1, Math.min(1, value / limit)) + 1) / 2) * width;
  const valueOf = ({ difference, low, high }) => `${points(difference)} (${pointsInterval(low, high)})`;
  const told = differences.map((difference, i) => difference && `${rows[i].name}: ${valueOf(difference)}`);
  return svg(
    "svg",
    { class: "comparison", viewBox: `0 0 ${left + width + right} ${height}`, role: "img" },
    svg(
      "title",
      {},
      `Difference of ${name} from ${reference}, in percentage points. ${told.filter(Boolean).join("; ")}`,
    ),
    ...rowLines(rows.length, narrow ? left - 110 : left, left + width + right),
    ...[-limit, 0, limit].flatMap((tick) => verticalTick(x(tick), height, points(tick))),
    axisName(left + width / 2, height, `difference from ${shorten(reference, SHARES.maxName)}, percentage points`),
    line(x(0), x(0), TOP - 4, height - AXIS + 2, "zero"),
    ...rows.flatMap(({ isReference, name: rowName }, i) => {
      const y = TOP + i * ROW + ROW / 2;
      const ofRow = narrow ? [rowLabel(left, y, rowName)] : [];
      const label = (content, kind = "") => text(left + width + 10, y + 5, content, { class: kind });
      if (differences[i]) return [...ofRow, ...differenceMark(differences[i], x, y), label(valueOf(differences[i]))];
      return isReference ? [...ofRow, label("compared with", "soft")] : ofRow;
    }),
  );
}

function differenceMark({ difference, low, high }, x, y) {
  if (low == null) return [svg("circle", { class: "open", cx: x(difference), cy: y, r: 5 })];
  return [
    line(x(low), x(high), y, y, "whisker"),
    ...[low, high].map((end) => line(x(end), x(end), y - 5, y + 5, "whisker")),
    svg("circle", { class: "ink", cx: x(difference), cy: y, r: 5 }),
  ];
}
