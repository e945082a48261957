// The answers that the page computes itself: those of Python, from vectors that tests/support/page_vectors.py wrote.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { assess, distance, softmax } from "../../../service/page/private/assess.js";
import { measure, reasonsOf } from "../../../service/page/private/cell-quality.js";
import { compose } from "../../../service/page/private/composition.js";
import { guard, toCsv } from "../../../service/page/private/csv.js";
import { readTensors } from "../../../service/page/private/safetensors.js";

const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url)));
const isClose = (found, expected, tolerance, what) =>
  assert.ok(Math.abs(found - expected) <= tolerance, `${what}: ${found} and not ${expected}`);

test("probabilities, sets, distances and verdicts are those of Python", () => {
  const { cells, outliers, conformal, threshold, hierarchy, coarse_thresholds } = read("assessments.json");
  const raw = Buffer.from(outliers, "base64");
  const tensors = readTensors(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
  const classes = ["A", "B", "C", "D"];
  const [verdicts, unsure] = [new Set(), new Set()];
  let differ = 0;
  for (const cell of cells) {
    const away = distance(cell.embedding, tensors, threshold);
    const spec = { classes, conformal, hierarchy };
    const answer = assess(softmax(cell.logits), away, { ...spec, coarse_thresholds });
    const older = assess(softmax(cell.logits), away, { ...spec, coarse_thresholds: null });
    isClose(away, cell.distance, 1e-5 * cell.distance, "distance");
    for (const [k, name] of classes.entries()) isClose(answer.probabilities[name], cell.probabilities[k], 1e-6, name);
    assert.deepEqual(
      answer.conformal_set,
      classes.filter((_, k) => cell.set[k]),
    );
    assert.equal(answer.verdict, cell.verdict);
    for (const [{ coarse: found }, expected] of [
      [answer, cell.coarse],
      [older, cell.coarse_without_thresholds],
    ]) {
      assert.equal(found?.label, expected?.label);
      if (expected) isClose(found.probability, expected.probability, 1e-6, "coarse");
    }
    differ += answer.coarse?.label !== older.coarse?.label;
    verdicts.add(answer.verdict);
    if (answer.verdict === "unsure") unsure.add(answer.coarse?.label);
    if (answer.verdict === "unlike_training") assert.equal(answer.coarse, null);
  }
  assert.equal(verdicts.size, 3);
  assert.equal(unsure.size, 2); // one coarse class, and none
  assert.ok(differ > 0, "a cell that the two rules call differently");
  assert.equal(assess([0.5, 0.5], 0, { classes: ["A", "B"], conformal: [0, 0] }).coarse, null);
});

test("the quality of a cell, and why it is outside the gates, are those of Python", () => {
  const { gate, bits, cells } = read("quality.json");
  const found = new Set();
  for (const { shape, pixels, features, reasons } of cells) {
    const raw = Buffer.from(pixels, "base64");
    const values = Uint16Array.from({ length: raw.length / 2 }, (_, i) => raw.readUInt16LE(2 * i));
    const measured = Object.values(measure(values, ...shape, bits));
    for (const [k, value] of features.entries())
      isClose(measured[k], value, 1e-4 * (1 + Math.abs(value)), `feature ${k}`);
    assert.deepEqual(reasonsOf(values, ...shape, bits, gate), reasons);
    for (const reason of reasons) found.add(reason);
  }
  assert.deepEqual([...found].sort(), ["clipped", "debris", "doublet", "focus", "saturated"]);
});

test("the composition of a culture and its interval are those of Python", () => {
  for (const { probabilities, prior, error, shares, low, high } of read("compositions.json")) {
    const classes = prior.map((_, k) => `class ${k}`);
    const cells = probabilities.map((row) => ({ probabilities: row, verdict: "sure" }));
    const unlike = { probabilities: prior.map((_, k) => Number(k === 0)), verdict: "unlike_training" };
    const found = compose([...cells, unlike], { classes, prior, composition_error: error });
    for (const [k, name] of classes.entries()) {
      isClose(found[name].share, shares[k], 1e-6, "share");
      isClose(found[name].low, low[k], 1e-6, "low");
      isClose(found[name].high, high[k], 1e-6, "high");
    }
  }
  assert.equal(compose([], { classes: [], prior: [], composition_error: [] }), null);
});

test("the CSV has the bytes of the one that the service writes", () => {
  const { results, csv, guarded } = read("table.json");
  assert.equal(toCsv(results), csv);
  for (const [text, safe] of guarded) assert.equal(guard(text), safe, text);
});
