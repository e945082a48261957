// Charts as SVG.

import { svg } from "./dom.js";
import { interval, percent, round } from "./format.js";

const COLORS = 12;
const TICKS = [0, 0.25, 0.5, 0.75, 1];
const AXIS = 22; // height of the tick labels
const BAR = 20;
// In the wide layout names and values stand beside the bars, in the narrow one above them.
const WIDE = { row: 30, top: 4, left: 118, width: 232, right: 130, maxName: 16 };
const NARROW = { row: 48, top: 22, left: 18, width: 264, right: 18, maxName: 24 };

/** Return the colour of a class by its index. */
export const color = (index) => `var(--c${index % COLORS})`;

/** Draw the share of every class as a bar, with its 95% interval as a whisker. */
export function compositionChart(shares, classes, narrow = false) {
  const layout = narrow ? NARROW : WIDE;
  const height = classes.length * layout.row + AXIS;
  const width = layout.left + layout.width + layout.right;
  const values = classes.map((name) => {
    const { share, low, high } = shares[name];
    return `${name} ${percent(share)}, ${percent(low)} to ${percent(high)}`;
  });
  return svg(
    "svg",
    { class: "composition", viewBox: `0 0 ${width} ${height}`, role: "img" },
    svg("title", {}, `Composition with 95% intervals: ${values.join("; ")}`),
    ...TICKS.flatMap((tick) => tickMark(tick, layout, height)),
    ...classes.flatMap((name, i) => classBar(name, shares[name], i, layout)),
  );
}

function tickMark(tick, { left, width }, height) {
  const x = left + tick * width;
  return [
    svg("line", { class: "axis", x1: x, x2: x, y1: 0, y2: height - BAR }),
    svg("text", { class: "soft", x, y: height - 5, "text-anchor": "middle", "font-size": 11 }, percent(tick)),
  ];
}

function classBar(name, { share, low, high }, i, layout) {
  const { row, top, left, width, maxName } = layout;
  const y = i * row + top;
  const label = name.length > maxName ? `${name.slice(0, maxName - 1)}…` : name;
  const value = `${percent(share)} (${interval(low, high)})`;
  const texts =
    layout === NARROW
      ? [
          svg("text", { x: left, y: y - 5 }, label),
          svg("text", { x: left + width, y: y - 5, "text-anchor": "end" }, value),
        ]
      : [
          svg("text", { x: left - 8, y: y + 15, "text-anchor": "end" }, label),
          svg("text", { x: left + width + 10, y: y + 15 }, value),
        ];
  return [
    ...texts,
    svg("rect", { x: left, y, width: Math.max(1, share * width), height: BAR, rx: 2, class: `fill-${i % COLORS}` }),
    ...whisker(left + low * width, left + high * width, y),
  ];
}

const whiskerLine = (x1, x2, y1, y2) => svg("line", { class: "whisker", x1, x2, y1, y2 });

function whisker(low, high, y) {
  const ends = [low, high].map((end) => whiskerLine(end, end, y + 5, y + 15));
  return [whiskerLine(low, high, y + 10, y + 10), ...ends];
}

/** Return the bars of two histograms over the same bins, [{ kind, x, y, width, height }]; empty bins have none. */
export function histogramBars({ known_shares: known, here_shares: here }, width, height) {
  const highest = Math.max(...known, ...here);
  const step = width / known.length;
  const bars = (kind, shares) =>
    shares.map((share, i) => {
      const tall = (share / highest) * height;
      return { kind, x: i * step, y: height - tall, width: step - 1, height: tall };
    });
  return [...bars("known", known), ...bars("here", here)].filter((bar) => bar.height > 0);
}

/** Draw two histograms over each other: the training images, and this upload. */
export function histogramChart(difference) {
  const [width, height] = [300, 90];
  const { name, known, here, edges } = difference;
  const chart = svg(
    "svg",
    { class: "histogram", viewBox: `0 0 ${width} ${height + 20}`, width, role: "img" },
    svg("title", {}, `${name}: typically ${round(known)} in the training images, ${round(here)} in this upload`),
  );
  for (const { kind, ...bar } of histogramBars(difference, width, height)) {
    chart.append(svg("rect", { ...bar, class: `fill-${kind}` }));
  }
  chart.append(
    svg("text", { class: "soft", x: 0, y: height + 15 }, round(edges[0])),
    svg("text", { class: "soft", x: width, y: height + 15, "text-anchor": "end" }, round(edges.at(-1))),
  );
  return chart;
}
