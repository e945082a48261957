// Pictures of numbers, as SVG.

const NS = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const color = (index) => `var(--c${index % 8})`;
export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

// A bar a class, with its 95 % interval as a whisker.
export function composition(shares, classes) {
  const [row, left, width, right] = [30, 118, 250, 112];
  const height = classes.length * row + 22;
  const x = (share) => left + share * width;
  const made = svg("svg", { class: "composition", viewBox: `0 0 ${left + width + right} ${height}`, role: "img" });
  const told = classes.map((name) => `${name} ${percent(shares[name].share)}, ${percent(shares[name].low)} to ${percent(shares[name].high)}`);
  made.append(svg("title", {}, `Composition with 95 % intervals: ${told.join("; ")}`));
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    made.append(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 0, y2: height - 20 }));
    made.append(svg("text", { class: "soft", x: x(tick), y: height - 5, "text-anchor": "middle", "font-size": 11 }, `${tick * 100}%`));
  }
  classes.forEach((name, i) => {
    const [y, { share, low, high }] = [i * row + 4, shares[name]];
    const label = name.length > 16 ? `${name.slice(0, 15)}…` : name;
    made.append(svg("text", { x: left - 8, y: y + 15, "text-anchor": "end" }, label));
    made.append(svg("rect", { x: left, y, width: Math.max(1, share * width), height: 20, rx: 2, class: `fill-${i % 8}` }));
    made.append(svg("line", { class: "whisker", x1: x(low), x2: x(high), y1: y + 10, y2: y + 10 }));
    for (const end of [low, high]) made.append(svg("line", { class: "whisker", x1: x(end), x2: x(end), y1: y + 5, y2: y + 15 }));
    made.append(svg("text", { x: left + width + 10, y: y + 15 }, `${Math.round(share * 100)} % (${Math.round(low * 100)}–${Math.round(high * 100)})`));
  });
  return made;
}

// Two histograms over the same bins: what the model knows, and what is here.
export function histograms(difference) {
  const [width, height] = [300, 90];
  const { edges, known_shares: known, here_shares: here } = difference;
  const top = Math.max(...known, ...here);
  const step = width / known.length;
  const made = svg("svg", { viewBox: `0 0 ${width} ${height + 20}`, width, role: "img" });
  made.append(svg("title", {}, `${difference.name}: the cells that the model knows lie around ${round(difference.known)}, these around ${round(difference.here)}`));
  [[known, "fill-known"], [here, "fill-here"]].forEach(([shares, kind]) =>
    shares.forEach((share, i) => {
      const tall = (share / top) * height;
      if (tall) made.append(svg("rect", { x: i * step, y: height - tall, width: step - 1, height: tall, class: kind }));
    }),
  );
  made.append(svg("text", { class: "soft", x: 0, y: height + 15 }, String(round(edges[0]))));
  made.append(svg("text", { class: "soft", x: width, y: height + 15, "text-anchor": "end" }, String(round(edges.at(-1)))));
  return made;
}

export const round = (value) => Number(value.toPrecision(3)).toLocaleString("en");
