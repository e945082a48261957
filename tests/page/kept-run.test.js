import assert from "node:assert/strict";
import { test } from "node:test";

import { isTooOld, MAX_DAYS, packCells, packHead, unpack } from "../../service/page/kept-run.js";
import { Run } from "../../service/page/run.js";
import { toRegExp } from "../../service/page/filenames.js";
import { shownPath } from "../../service/page/sentences.js";
import { answerTracks } from "../../service/page/tracks.js";

const MODEL = { task: "multiclass", classes: ["A", "B"], regex: /a/ };
const ROOM = 1e6;

function classified() {
  const items = ["a", "b"].map((path) => ({ path, shown: `day1/${path}`, sample: "day1", read: () => null, zip: "" }));
  const run = new Run(MODEL, 3);
  run.begin(items);
  run.addResponse(items, {
    model: { name: "m", version: "3" },
    request_id: "r",
    cells: [
      {
        file: "a",
        label: "A",
        verdict: "sure",
        probabilities: { A: 0.9, B: 0.1 },
        thumbnail: "x".repeat(600),
        map: {},
      },
      { file: "a", label: "B", verdict: "sure", probabilities: { A: 0.1, B: 0.9 }, thumbnail: "y".repeat(600) },
      { file: "b", error: { code: "empty", message: "b: the file is empty" } },
    ],
  });
  run.samples.set("day1", {
    cells: run.classified,
    summary: { composition: { A: { share: 0.5 } } },
    excludesOutside: false,
  });
  run.overall = run.samples.get("day1");
  run.finish();
  return run;
}

const headOf = (run, count, now = 0) => packHead(run, { id: "1", count, size: 1, pictures: 1, now });

/** What IndexedDB does of a value: functions cannot be kept. */
const kept = (value) => structuredClone(value);

test("a run that was kept still knows which images are of one cell", () => {
  const tracks = { group: [], track: "cell", time: "hour", scale: 1, correlation: 0.4 };
  const followed = { ...MODEL, pattern: "(?P<cell>[a-z])(?P<hour>\\d)", tracks, prior: [0.5, 0.5], coverage: 0.9 };
  const run = classified();
  run.model = { ...followed, regex: toRegExp(followed.pattern) };
  for (const [hour, cell] of run.classified.entries()) cell.file = cell.item.path = `c${hour}`;
  run.classified[1].item = { ...run.classified[0].item, path: "c1" };
  run.classified[0].item.path = "c0";
  run.samples.get("day1").followed = 1;
  const { cells } = packCells(run, 0, ROOM);
  const again = unpack(kept(headOf(run, cells.length)), kept(cells));
  assert.equal(answerTracks(again.classified, again.model).length, 1);
  assert.equal(again.samples.get("day1").followed, 1);
});

test("a run that was kept is the same run, without its files", () => {
  const run = classified();
  const { cells, size } = packCells(run, 0, ROOM);
  const again = unpack(kept(headOf(run, cells.length)), kept(cells));
  assert.ok(size > 1200 && size < 5000, size);
  assert.deepEqual(
    again.cells.map(({ file, label, thumbnail, sample }) => [file, label, thumbnail, sample]),
    run.cells.map(({ file, label, thumbnail, sample }) => [file, label, thumbnail, sample]),
  );
  assert.deepEqual(again.cells.map(shownPath), ["day1/a", "day1/a", "day1/b"]);
  assert.equal(again.cells[0].map, undefined);
  assert.equal(again.cells[0].item, again.cells[1].item);
  assert.ok(again.cells[0].item.gone);
  assert.deepEqual(again.samples.get("day1").summary, run.samples.get("day1").summary);
  assert.deepEqual(again.samples.get("day1").cells, again.classified);
  assert.deepEqual([again.finished, again.cancelled, again.lastResponse.model.version], [true, false, "3"]);
  assert.deepEqual([...again.versions], ["3"]);
  assert.equal(again.unreadable.length, 1);
});

test("cells that do not fit are kept without pictures", () => {
  const run = classified();
  const { cells } = packCells(run, 0, 900);
  assert.deepEqual(
    cells.map(({ thumbnail }) => Boolean(thumbnail)),
    [true, false, false],
  );
  assert.equal(run.cells[1].thumbnail.length, 600, "and on the page they still have them");
});

test("cells that come later are packed alone", () => {
  assert.deepEqual(
    packCells(classified(), 2, ROOM).cells.map(({ file }) => file),
    ["b"],
  );
});

test("a summary of fewer cells than there are is made again", () => {
  const run = classified();
  run.samples.get("day1").cells.pop();
  run.overall = null;
  const again = unpack(headOf(run, 3), kept(packCells(run, 0, ROOM).cells));
  assert.equal(again.samples.size, 0);
});

test("half of a run is refused", () => {
  const run = classified();
  assert.throws(() => unpack(headOf(run, 3), kept(packCells(run, 1, ROOM).cells)), /2 of 3 cells/);
});

test("what was kept for too long is not offered, nor what a wrong clock kept", () => {
  const day = 24 * 3600e3;
  const head = headOf(classified(), 3, 100 * day);
  assert.ok(!isTooOld(head, (100 + MAX_DAYS) * day));
  assert.ok(isTooOld(head, (100 + MAX_DAYS) * day + 1));
  assert.ok(isTooOld(head, 98 * day));
});

test("roles that a person gave are kept, with the plate map and the reference", () => {
  const run = classified();
  const roles = { condition: "mine", replicate: "1", day: null, dose: null, unit: null, donor: null };
  const plateMap = { name: "plate.csv", rows: [], problems: [] };
  Object.assign(run, { roles: new Map([["day1", roles]]), plateMap, reference: "mine" });
  const { cells } = packCells(run, 0, ROOM);
  const again = unpack(kept(headOf(run, cells.length)), kept(cells));
  assert.deepEqual([...again.roles], [["day1", roles]]);
  assert.deepEqual([again.plateMap, again.reference], [plateMap, "mine"]);
  assert.equal(unpack(kept(headOf(classified(), cells.length)), kept(cells)).roles, undefined);
});
