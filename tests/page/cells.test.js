import assert from "node:assert/strict";
import { test } from "node:test";

import { histogramBars } from "../../service/page/charts.js";
import { origin } from "../../service/page/detail.js";
import { columnLayout, visibleRange } from "../../service/page/gallery.js";
import { selectCells } from "../../service/page/ordering.js";
import { composedCells, countOutside } from "../../service/page/quality.js";
import { countVerdicts, groupBy, isMostlyUnlike } from "../../service/page/samples.js";

const cell = (file, label, confidence, other = {}) => ({
  file,
  label,
  probabilities: { [label]: confidence },
  verdict: "sure",
  distance: 0,
  sample: "r1",
  ...other,
});
const CELLS = [
  cell("a", "B", 0.6, { distance: 3 }),
  cell("b", "A", 0.7, { verdict: "unsure" }),
  cell("c", "A", 0.9, { sample: "r2" }),
  { file: "d", error: {} },
];
const ALL = { order: "class", label: "", verdict: "", sample: "", quality: "" };
const unlike = (count) => Array.from({ length: count }, () => ({ verdict: "unlike_training" }));
const files = (filters) =>
  selectCells(CELLS, ["A", "B"], { ...ALL, ...filters })
    .map(({ file }) => file)
    .join("");

test("cells are sorted by class, by confidence or by distance; images without a class are left out", () => {
  assert.equal(files({}), "cba");
  assert.equal(files({ order: "unsure" }), "abc");
  assert.equal(files({ order: "sure" }), "cba");
  assert.equal(files({ order: "odd" })[0], "a");
});

test("filters are combined", () => {
  assert.equal(files({ label: "A" }), "cb");
  assert.equal(files({ label: "A", sample: "r1" }), "b");
  assert.equal(files({ label: "A", sample: "r1", verdict: "sure" }), "");
});

test("cells inside and outside the quality gates are told apart, and by reason", () => {
  const judged = [
    cell("g", "A", 0.9, { quality: [] }),
    cell("f", "A", 0.8, { quality: ["focus"] }),
    cell("d", "A", 0.7, { quality: ["debris", "focus"] }),
    cell("o", "A", 0.6),
  ];
  const shown = (quality) =>
    selectCells(judged, ["A"], { ...ALL, quality })
      .map(({ file }) => file)
      .join("");
  assert.equal(shown(""), "gfdo");
  assert.equal(shown("inside"), "go");
  assert.equal(shown("outside"), "fd");
  assert.equal(shown("debris"), "d");
  assert.deepEqual(
    composedCells(judged, true)
      .map(({ file }) => file)
      .join(""),
    "go",
  );
  assert.equal(composedCells(judged, false), judged);
  const { outside, outside_reasons: reasons } = countOutside(judged);
  assert.equal(outside, 2);
  assert.deepEqual(reasons, { focus: 2, doublet: 0, debris: 1, clipped: 0, saturated: 0 });
  assert.deepEqual(countOutside([cell("o", "A", 0.6)]), {});
});

test("verdicts are counted, and a sample of mostly unlike cells is recognised", () => {
  assert.deepEqual(countVerdicts([...unlike(2), { verdict: "sure" }]), { sure: 1, unsure: 0, unlike_training: 2 });
  assert.ok(isMostlyUnlike([...unlike(2), { verdict: "sure" }]));
  assert.ok(!isMostlyUnlike([...unlike(1), { verdict: "sure" }]));
});

test("groups keep the order of their first members", () => {
  const groups = groupBy(["b1", "a1", "b2"], ([letter]) => letter);
  assert.deepEqual(
    [...groups],
    [
      ["b", ["b1", "b2"]],
      ["a", ["a1"]],
    ],
  );
});

test("only tiles in sight and two rows around them are drawn", () => {
  assert.deepEqual(visibleRange(5000, 8, 0, 610), [0, 56]);
  const [first, last] = visibleRange(5000, 8, 12_200, 610);
  assert.deepEqual([first, last], [98 * 8, 107 * 8]);
  assert.deepEqual(visibleRange(3, 8, 0, 610), [0, 3]);
});

test("tiles fill their box", () => {
  assert.deepEqual(columnLayout(4 + 7 * 116), { columns: 7, tileWidth: 112 });
  assert.deepEqual(columnLayout(4 + 7 * 120), { columns: 7, tileWidth: 116 });
  assert.equal(columnLayout(300).columns, 3, "in a narrow box they are smaller");
  assert.equal(columnLayout(0).columns, 1);
});

test("histogram bars share their scale; empty bins have none", () => {
  const bars = histogramBars({ known_shares: [1, 0], here_shares: [0.25, 0.75] }, 100, 80);
  assert.deepEqual(bars, [
    { kind: "known", x: 0, y: 0, width: 49, height: 80 },
    { kind: "here", x: 0, y: 60, width: 49, height: 20 },
    { kind: "here", x: 50, y: 20, width: 49, height: 60 },
  ]);
});

test("the origin of a cell names what is known of it", () => {
  assert.equal(origin({ file: "a.tif", page: null, object: null }), "a.tif");
  assert.equal(origin({ file: "a.tif", page: 0, object: 0 }), "a.tif, page 1, object 0");
});
