// Charts as SVG.

import { svg } from "./dom.js";
import { percent, round } from "./format.js";

const COLORS = 8;
const MAX_NAME = 16; // characters beside a bar

/** Return the colour of a class by its index. */
export const color = (index) => `var(--c${index % COLORS})`;

/** Draw the share of every class as a bar, with its 95 % interval as a whisker. */
export function compositionChart(shares, classes) {
  const [row, left, width, right] = [30, 118, 250, 112];
  const height = classes.length * row + 22;
  const x = (share) => left + share * width;
  const values = classes.map((name) => {
    const { share, low, high } = shares[name];
    return `${name} ${percent(share)}, ${percent(low)} to ${percent(high)}`;
  });
  const chart = svg(
    "svg",
    { class: "composition", viewBox: `0 0 ${left + width + right} ${height}`, role: "img" },
    svg("title", {}, `Composition with 95 % intervals: ${values.join("; ")}`),
  );
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    chart.append(
      svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 0, y2: height - 20 }),
      svg(
        "text",
        { class: "soft", x: x(tick), y: height - 5, "text-anchor": "middle", "font-size": 11 },
        `${tick * 100}%`,
      ),
    );
  }
  classes.forEach((name, i) => {
    const [y, { share, low, high }] = [i * row + 4, shares[name]];
    const label = name.length > MAX_NAME ? `${name.slice(0, MAX_NAME - 1)}…` : name;
    const interval = `${Math.round(low * 100)}–${Math.round(high * 100)}`;
    chart.append(
      svg("text", { x: left - 8, y: y + 15, "text-anchor": "end" }, label),
      svg("rect", { x: left, y, width: Math.max(1, share * width), height: 20, rx: 2, class: `fill-${i % COLORS}` }),
      ...whisker(x(low), x(high), y),
      svg("text", { x: left + width + 10, y: y + 15 }, `${Math.round(share * 100)} % (${interval})`),
    );
  });
  return chart;
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
  return [
    ["known", known],
    ["here", here],
  ].flatMap(([kind, shares]) =>
    shares
      .map((share, i) => {
        const tall = (share / highest) * height;
        return { kind, x: i * step, y: height - tall, width: step - 1, height: tall };
      })
      .filter((bar) => bar.height > 0),
  );
}

/** Draw two histograms over each other: the training images, and this upload. */
export function histogramChart(difference) {
  const [width, height] = [300, 90];
  const { name, known, here, edges } = difference;
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height + 20}`, width, role: "img" },
    svg("title", {}, `${name}: the cells that the model knows lie around ${round(known)}, these around ${round(here)}`),
  );
  for (const { kind, ...bar } of histogramBars(difference, width, height)) {
    chart.append(svg("rect", { ...bar, class: `fill-${kind}` }));
  }
  chart.append(
    svg("text", { class: "soft", x: 0, y: height + 15 }, String(round(edges[0]))),
    svg("text", { class: "soft", x: width, y: height + 15, "text-anchor": "end" }, String(round(edges.at(-1)))),
  );
  return chart;
}
