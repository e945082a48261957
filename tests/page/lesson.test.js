import assert from "node:assert/strict";
import { test } from "node:test";

import { LabelSet, lessonLines, MAX_CLASSES, reasonAgainstTeaching } from "../../service/page/lesson.js";

const cell = (image_hash, fields = {}) => ({ image_hash, sample: "run1", ...fields });
const described = (image_hash) => ({ image_hash, height: 40, width: 60, bit_depth: 12, vector: "AAAA", file: "x" });

test("classes are named once, and have a key each", () => {
  const labels = new LabelSet();
  assert.equal(labels.addClass(" dark "), "");
  assert.match(labels.addClass("dark"), /already/);
  assert.match(labels.addClass(" "), /name/);
  for (let i = 1; i < MAX_CLASSES; i++) assert.equal(labels.addClass(`c${i}`), "");
  assert.match(labels.addClass("one more"), /at most 9/);
});

test("marked cells are labelled together, and a label can be taken away", () => {
  const [labels, cells] = [new LabelSet(), ["1", "2", "3"].map((hash) => cell(hash))];
  labels.addClass("dark");
  for (const one of cells.slice(0, 2)) labels.toggle(one);
  labels.toggle(cells[1]);
  labels.toggle(cells[2]);
  labels.label([...labels.marked], "dark");
  assert.deepEqual(labels.counts, [["dark", 2]]);
  assert.equal(labels.marked.size, 0);
  labels.label([cells[0]], null);
  assert.deepEqual(labels.counts, [["dark", 1]]);
});

test("labelled cells are sent first, each image once, and only what the service has described", () => {
  const labels = new LabelSet();
  const cells = ["1", "2", "2", "3"].map((hash) => cell(hash));
  labels.addClass("dark");
  labels.label([cells[3]], "dark");
  const chosen = labels.choose(cells);
  assert.deepEqual(
    chosen.map(({ image_hash }) => image_hash),
    ["3", "1", "2"],
  );
  labels.addDescribed({ model: { version: "7" }, cells: [described("3"), described("1")] });
  const body = labels.body(chosen, { count: 5 });
  assert.deepEqual(
    [body.version, body.count, body.cells.map(({ id, label, sample }) => [id, label, sample])],
    [
      "7",
      5,
      [
        ["3", "dark", "run1"],
        ["1", "", "run1"],
      ],
    ],
  );
  assert.ok(!("file" in body.cells[0]));
  labels.addDescribed({ model: { version: "8" }, cells: [] });
  assert.equal(labels.body(chosen).cells.length, 0, "vectors of another version say nothing");
});

test("cells to label next come in their order, contradicted labels in theirs", () => {
  const [labels, cells] = [new LabelSet(), ["1", "2", "3", "4"].map((hash) => cell(hash))];
  labels.addClass("dark");
  labels.label([cells[0], cells[3]], "dark");
  labels.answer = { next: ["3", "2"], lesson: { contradicted: [{ id: "4" }, { id: "1" }] } };
  assert.deepEqual(labels.nextFirst(cells), [cells[2], cells[1]]);
  assert.deepEqual(labels.contradicted(cells), [cells[3], cells[0]]);
});

test("populations of an analysis label the objects that they hold", () => {
  const [labels, cells] = [new LabelSet(), [0, 5, 9].map((object) => cell(`${object}`, { object }))];
  const populations = [
    {
      name: "alive",
      spans: [
        [0, 3],
        [9, 9],
      ],
    },
    { name: "dead", spans: [[4, 8]] },
  ];
  assert.equal(labels.takePopulations(cells, populations), 3);
  assert.deepEqual(labels.counts, [
    ["alive", 2],
    ["dead", 1],
  ]);
});

test("a lesson is told in sentences, with the reason where there is no interval", () => {
  assert.deepEqual(lessonLines({ lesson: null, needs: "label more" }), ["Nothing is learned yet: label more."]);
  const lesson = {
    classes: [{ label: "dark", labels: 50, recall: 0.9 }],
    reads: "both",
    left_out: "samples",
    accuracy: { value: 0.91, low: null, high: null, why: "too few samples" },
    simple: { value: 0.8 },
    shortcuts: [
      { suspicious: true, words: "The background alone." },
      { suspicious: false, words: "no" },
    ],
    contradicted: [{ id: "1" }],
  };
  const lines = lessonLines({ lesson, needs: null });
  assert.match(lines[0], /^Balanced accuracy 91\s?%, by cross-validation over samples/);
  assert.ok(lines.includes("There is no interval: too few samples."));
  assert.ok(lines.includes("The background alone."));
  assert.ok(!lines.includes("no"));
  assert.match(lines.at(-1), /^1 label should be looked at again/);
});

test("labels come back with the same cells, and not with others", () => {
  const before = new LabelSet();
  before.addClass("dark");
  before.addClass("plain");
  before.label([cell("1"), cell("2")], "dark");
  before.label([cell("2")], null);
  before.label([cell("3")], "plain");
  const kept = JSON.parse(JSON.stringify(before.pack()));
  const other = new LabelSet();
  other.takeUp([cell("8"), cell("9")], kept);
  assert.deepEqual([other.classes, other.labels.size], [[], 0]);
  const again = new LabelSet();
  again.takeUp([cell("1"), cell("2")], kept);
  assert.deepEqual(again.counts, [
    ["dark", 1],
    ["plain", 0],
  ]);
  // The others come later.
  again.takeUp([cell("3"), cell("9")], kept);
  assert.deepEqual(again.counts, [
    ["dark", 1],
    ["plain", 1],
  ]);
  assert.deepEqual(again.pack(), kept);
  again.takeUp([cell("1")], null);
});

test("teaching says why it cannot be", () => {
  assert.equal(reasonAgainstTeaching({}, false), "");
  assert.match(reasonAgainstTeaching({}, true), /Turn that off/);
  assert.match(reasonAgainstTeaching({ kept: {} }, false), /classify them again/);
});
