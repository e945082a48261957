import assert from "node:assert/strict";
import { test } from "node:test";

import { toBatchResponse } from "../../service/page/downloads.js";
import { Run } from "../../service/page/run.js";

const MODEL = { task: "multiclass", classes: ["A", "B"], simulated: true };
const items = (...paths) => paths.map((path) => ({ path, sample: path.split("/")[0] }));
const response = (version, ...cells) => ({ model: { name: "m", version }, request_id: "r", cells });
const classified = (file, label, verdict = "sure") => ({ file, label, verdict, probabilities: { A: 0.5, B: 0.5 } });

test("a run keeps what came back and what is missing, over two attempts", () => {
  const all = items("r1/a", "r1/b", "r2/c");
  const run = new Run(MODEL, all.length);
  run.begin(all);
  run.addFailure([all[1]], new Error("b: encrypted"));
  run.addResponse(all.slice(0, 2), response("3", classified("r1/a", "A")));
  run.addFailure([all[2]], new Error("the service is busy"));
  run.finish();
  assert.deepEqual(
    run.missing.map(({ path }) => path),
    ["r1/b", "r2/c"],
  );
  assert.deepEqual([run.failure, run.cancelled], ["b: encrypted", false]);
  run.begin(run.missing);
  assert.equal(run.finished, false);
  run.addResponse(all.slice(1), response("4", classified("r1/b", "B"), { file: "r2/c", error: { code: "x" } }));
  run.finish();
  assert.deepEqual(run.missing, []);
  assert.equal(run.failure, "");
  assert.deepEqual(
    run.cells.map((cell) => cell.sample),
    ["r1", "r1", "r2"],
  );
  assert.deepEqual(
    run.classified.map((cell) => cell.label),
    ["A", "B"],
  );
  assert.equal(run.unreadable.length, 1);
  assert.deepEqual([...run.versions], ["3", "4"]);
});

test("a cancelled run says so", () => {
  const run = new Run(MODEL, 1);
  run.begin(items("r1/a"));
  run.controller.abort();
  run.finish();
  assert.ok(run.cancelled);
});

test("an export has the cells of all responses, without what only the page needs", () => {
  const all = items("r1/a", "r1/b", "r2/c");
  const run = new Run(MODEL, all.length);
  run.begin(all);
  const first = { ...classified("r1/a", "A"), thumbnail: "png", figures: [1], map: {}, corrected: "Thank you." };
  run.addResponse(all, response("3", first, classified("r1/b", "A", "unsure"), { file: "r2/c", error: {} }));
  const exported = toBatchResponse(run);
  assert.deepEqual(exported.cells[0], { ...classified("r1/a", "A"), sample: "r1" });
  assert.deepEqual(exported.sample, {
    cells: 2,
    refused: 1,
    other_channels: 0,
    sure: 1,
    unsure: 1,
    unlike_training: 0,
    called: { A: 2, B: 0 },
    composition: null,
  });
  assert.deepEqual([exported.task, exported.model.version, exported.simulated], ["multiclass", "3", true]);
});

test("cells of two zips with the same names belong to the file that was sent, not to its namesake", () => {
  const all = ["day1", "day3"].map((zip) => ({ path: "0_Ch1.tif", zip, sample: zip, shown: `${zip}/0_Ch1.tif` }));
  const run = new Run(MODEL, all.length);
  run.begin(all);
  const cells = all.map((item) => ({ ...classified("0_Ch1.tif", item.zip === "day1" ? "A" : "B"), item, upload: 0 }));
  run.addResponse(all.slice(1), response("3", cells[1]));
  assert.deepEqual(run.missing, [all[0]]);
  run.addResponse(all.slice(0, 1), response("3", cells[0]));
  assert.deepEqual(run.missing, []);
  assert.deepEqual(
    run.cells.map(({ item, sample, label }) => [item, sample, label]),
    [
      [all[1], "day3", "B"],
      [all[0], "day1", "A"],
    ],
  );
  run.samples.set("day1", { cells: [run.cells[1]], summary: { composition: null } });
  const exported = toBatchResponse(run);
  assert.deepEqual(
    exported.cells.map(({ sample, file, ...rest }) => [sample, file, "item" in rest, "upload" in rest]),
    [
      ["day3", "0_Ch1.tif", false, false],
      ["day1", "0_Ch1.tif", false, false],
    ],
  );
  assert.deepEqual(
    exported.samples.map(({ sample, cells: count, refused, called }) => [sample, count, refused, called]),
    [["day1", 1, 0, { A: 1, B: 0 }]],
  );
});
