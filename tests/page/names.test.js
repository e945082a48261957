import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { assignSamples, nameZips, NO_FOLDER, toRegExp } from "../../service/page/filenames.js";
import { isSystemFile, readName, sameChannel, withoutChannel } from "../../service/page/names.js";

const table = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
const { names, objects, system, plain } = table("names.json");

test("the page reads channel and object as the service does", () => {
  for (const { path, pattern, object, channel } of names) {
    assert.deepEqual(readName(path, toRegExp(pattern)), { object, channel }, `${path} with ${pattern}`);
  }
});

test("the page finds the files of one object as the service does", () => {
  for (const { paths, pattern, key } of objects) {
    for (const path of paths) assert.equal(withoutChannel(path, toRegExp(pattern)), key, `${path} with ${pattern}`);
  }
});

test("the page hides the files that the service ignores", () => {
  for (const path of system) assert.ok(isSystemFile(path), path);
  for (const path of plain) assert.ok(!isSystemFile(path), path);
});

test("leading zeros and case do not make another channel", () => {
  assert.ok(sameChannel("01", "1") && sameChannel("BF", "bf"));
  assert.ok(!sameChannel("10", "1"));
});

test("the page assigns the samples that the service does", () => {
  for (const { case: name, files } of table("samples.json")) {
    const items = files.map(({ zip, path }) => ({ zip, path }));
    assignSamples(items);
    assert.deepEqual(
      items.map((item) => item.sample),
      files.map(({ sample }) => sample || NO_FOLDER),
      name,
    );
  }
});

test("zips of the same name are two samples", () => {
  assert.deepEqual(nameZips(["a.zip", "b/a.ZIP", "a.zip", "run.zip"], ["run/1.tif"]), ["a", "b/a", "a (2)", "run (2)"]);
});

test("what a pattern refers back to is translated too", () => {
  assert.ok(toRegExp("(?P<run>\\d)_(?P=run)\\.tif").test("1_1.tif"));
});
