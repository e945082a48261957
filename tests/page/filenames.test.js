import assert from "node:assert/strict";
import { test } from "node:test";

import { assignSamples, channelOf, isHidden, NO_FOLDER, toRegExp } from "../../service/page/filenames.js";

const samplesOf = (...paths) => {
  const items = paths.map((path) => ({ path }));
  assignSamples(items);
  return items.map((item) => item.sample);
};

test("a sample is the folder below those that all images share", () => {
  assert.deepEqual(samplesOf("export/run_1/a.tif", "export/run_2/b.tif"), ["run_1", "run_2"]);
  assert.deepEqual(samplesOf("export/x/run_1/a.tif", "export/y/run_1/b.tif"), ["x/run_1", "y/run_1"]);
});

test("images of one folder are a sample of its name, loose images one of their own", () => {
  assert.deepEqual(samplesOf("export/run_1/a.tif", "export/run_1/b.tif"), ["run_1", "run_1"]);
  assert.deepEqual(samplesOf("a.tif", "b.tif"), [NO_FOLDER, NO_FOLDER]);
  assert.deepEqual(samplesOf("a.tif", "run_1/b.tif"), [NO_FOLDER, "run_1"]);
  assert.deepEqual(samplesOf(), []);
});

test("the channel comes from the model's pattern, else from the names that IDEAS gives", () => {
  const regex = toRegExp("(?P<medium>[a-z]+)_w(?P<channel>\\d+)\\.tif$");
  assert.equal(channelOf("a_w3.tif", { regex }), "3");
  assert.equal(channelOf("run_1/a_1d1_12_Ch4.ome.tif", { regex }), "4");
  assert.equal(channelOf("12_Ch9.tif", { regex: null }), "9");
  assert.equal(channelOf("a.tif", { regex }), null);
  assert.equal(channelOf("nerve.tif", { regex: toRegExp("(?P<medium>[a-z]+)\\.tif") }), null);
});

test("a pattern that JavaScript cannot express counts as none", () => {
  assert.equal(toRegExp("(?x) (?P<medium>a)"), null);
  assert.equal(toRegExp(null), null);
});

test("files that operating systems add are hidden", () => {
  for (const path of [".DS_Store", "run/.x/a.tif", "__MACOSX/a.tif", "run/Thumbs.db"]) assert.ok(isHidden(path), path);
  assert.ok(!isHidden("run_1/a.b.tif"));
});
