import assert from "node:assert/strict";
import { test } from "node:test";

import {
  areComparable,
  comparedRows,
  comparedSamples,
  conditionsOf,
  daysOf,
  differencesByCondition,
  initialRoles,
  leftOutLines,
  manyComparisons,
  pValue,
  rolesSummary,
  unifyConditions,
  usualReference,
} from "../../service/page/comparison.js";

const MODEL = { task: "t", classes: ["a", "b"] };
const cell = (a, verdict = "sure", quality = []) => ({
  probabilities: { a, b: 1 - a },
  label: a > 0.5 ? "a" : "b",
  verdict,
  quality,
});
const COMPOSITION = { a: { share: 0.75, low: 0, high: 1 }, b: { share: 0.25, low: 0, high: 1 } };
const runOf = (cells, excludesOutside = false) => ({
  model: MODEL,
  excludesOutside,
  samples: new Map(
    Object.entries(cells).map(([name, its]) => [name, { cells: its, summary: { composition: COMPOSITION } }]),
  ),
});
const rolesFor = (...names) => new Map(names.map((name) => [name, initialRoles(name)]));

test("a sample is sent as the mean over the cells that count, with the shares that the page shows", () => {
  const cells = [cell(0.8), cell(0.4), cell(0.1, "unlike_training"), cell(0.3, "sure", ["focus"])];
  const { samples, leftOut } = comparedSamples(runOf({ x_d3_r1: cells }, true), rolesFor("x_d3_r1"));
  assert.deepEqual(leftOut, []);
  const [{ mean, ...rest }] = samples;
  assert.ok(Math.abs(mean.a - 0.6) < 1e-12 && Math.abs(mean.b - 0.4) < 1e-12);
  assert.deepEqual(rest, {
    sample: "x_d3_r1",
    cells: 2,
    called: { a: 1, b: 1 },
    shares: { a: 0.75, b: 0.25 },
    condition: "x",
    replicate: "1",
    day: 3,
    dose: null,
    donor: null,
  });
  assert.equal(comparedSamples(runOf({ x: cells }), rolesFor("x")).samples[0].cells, 3);
});

test("samples that cannot be compared are named with the reason", () => {
  const unlike = [cell(0.1, "unlike_training"), cell(0.1, "unlike_training"), cell(0.1)];
  const out = [cell(0.1, "sure", ["focus"])];
  const run = runOf({ run_1: [cell(0.1)], run_2: [cell(0.1)], debris: unlike, blurred: out }, true);
  const { samples, leftOut } = comparedSamples(run, rolesFor("run_1", "run_2", "debris", "blurred"));
  assert.deepEqual(samples, []);
  assert.deepEqual(leftOutLines(leftOut), [
    "blurred is not compared: no cell is left that counts.",
    "debris is not compared: 2 of 3 cells are unlike the training cells.",
    "run_1 and run_2 are not compared: no condition is given.",
  ]);
});

test("days or doses of one culture need no condition", () => {
  const run = runOf({ day1: [cell(0.1)], day3: [cell(0.1)] });
  const { samples, leftOut } = comparedSamples(run, rolesFor("day1", "day3"));
  assert.deepEqual(
    samples.map(({ condition, day }) => [condition, day]),
    [
      ["all samples", 1],
      ["all samples", 3],
    ],
  );
  assert.deepEqual(leftOut, []);
  assert.ok(areComparable(samples));
  assert.ok(!areComparable(samples.slice(1)));
  assert.ok(areComparable([samples[0], { ...samples[0], condition: "x" }]));
});

test("doses are sent in one unit, and left out where there is none", () => {
  const names = ["x_500nM", "x_1uM"];
  const cells = Object.fromEntries([...names, "x_10ng"].map((name) => [name, [cell(0.1)]]));
  const { [names[0]]: first, [names[1]]: second } = cells;
  const one = comparedSamples(runOf({ [names[0]]: first, [names[1]]: second }), rolesFor(...names));
  assert.deepEqual([one.unit, one.lostDoses, ...one.samples.map(({ dose }) => dose)], ["nM", false, 1000, 500]);
  const none = comparedSamples(runOf(cells), rolesFor(...names, "x_10ng"));
  assert.deepEqual(
    [none.unit, none.lostDoses, ...none.samples.map(({ dose }) => dose)],
    [null, true, null, null, null],
  );
});

test("conditions are told with their samples; one that is called like a control is compared with", () => {
  const roles = rolesFor("CHIR_r1", "CHIR_r2", "Control_r1", "run_1");
  assert.equal(
    rolesSummary(roles),
    "Roles of the samples: 4 samples in 2 conditions: CHIR (2) and Control (1), 1 without a condition",
  );
  assert.match(rolesSummary(rolesFor("run_1")), /1 sample, none has a condition yet$/);
  assert.equal(usualReference([...conditionsOf(roles).keys()]), "Control");
  assert.equal(usualReference(["b", "a"]), "b");
  assert.equal(usualReference(["a", "controlled release"]), "a");
  assert.equal(usualReference([]), null);
});

test("conditions that differ in case or spaces only are one", () => {
  const roles = rolesFor("Control_r1", "control_r2", "RA SHH_r1", "ra_shh_r2", "NT3_r1", "run_1");
  unifyConditions(roles);
  assert.deepEqual([...conditionsOf(roles).keys()], ["Control", "RA SHH", "NT3"]);
  assert.equal(roles.get("run_1").condition, "");
});

const difference = (condition, name, rest = {}) => ({
  condition,
  reference: "c",
  class: name,
  difference: 0.1,
  low: 0,
  high: 0.2,
  p_value: 0.04,
  replicates: [3, 2],
  sentence: "",
  why_not: null,
  day: null,
  dose: null,
  ...rest,
});

test("what keeps a p-value away is said once, and on how many replicates a comparison rests", () => {
  const why = { why_not: "one replicate", p_value: null };
  const [x, y] = differencesByCondition({
    reference: "c",
    differences: [difference("x", "a", why), difference("x", "b", why), difference("y", "a", { pairs: 4 })],
  });
  assert.deepEqual([x.whyNot, x.counts], [["one replicate"], ["3 replicates of x, 2 of c"]]);
  assert.deepEqual([y.whyNot, y.counts], [[], ["4 donors, each compared with itself"]]);
});

test("p-values are rounded, and of many it is said that some are small by chance", () => {
  assert.deepEqual([0.0123, 0.4, 0.00001, 1, null].map(pValue), ["p = 0.012", "p = 0.4", "p < 0.001", "p = 1", ""]);
  const differences = ["a", "b", "c"].map((name) => difference("x", name));
  assert.match(manyComparisons({ differences }), /^These are 3 comparisons\./);
  assert.equal(manyComparisons({ differences: differences.slice(1) }), "");
  assert.equal(manyComparisons({ differences: differences.map((one) => ({ ...one, p_value: null })) }), "");
});

test("days are charts of their own, doses are rows, and the reference is the first row", () => {
  const sample = (condition, day, dose) => ({ sample: `${condition}${day}${dose}`, condition, day, dose });
  const answer = {
    reference: "c",
    samples: [sample("x", 1, 10), sample("x", 1, 2), sample("c", 1, null), sample("x", 3, 2), sample("c", 3, null)],
    differences: [
      difference("x", "a", { day: 3, dose: 2 }),
      difference("x", "a", { day: 1, dose: 2 }),
      difference("x", "a", { day: 1, dose: 10, difference: 0.3 }),
    ],
  };
  assert.deepEqual(daysOf(answer), [1, 3]);
  const rows = comparedRows(answer, 1, "µM");
  assert.deepEqual(
    rows.map(({ name }) => name),
    ["c", "x 2 µM", "x 10 µM"],
  );
  assert.deepEqual(
    rows.map(({ find }) => find("a")?.difference),
    [undefined, 0.1, 0.3],
  );
  const whole = { ...answer, differences: [difference("x", "a")] };
  assert.deepEqual(daysOf(whole), [null]);
  assert.deepEqual(
    comparedRows(whole, null, "µM").map(({ name, samples }) => [name, samples.length]),
    [
      ["c", 2],
      ["x", 3],
    ],
  );
});
