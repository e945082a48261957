import assert from "node:assert/strict";
import { test } from "node:test";

import { fromInput, fromTransfer, otherChannels, partsOf, planUpload } from "../../service/page/files.js";
import { makeZip } from "./zips.js";

const MODEL = { channel: "1", regex: null };
const entry = (name) => ({ name, isFile: true, file: (resolve) => resolve(new File(["x"], name)) });
const choose = (path, content = "x") => ({ path, file: new File([content], path.split("/").pop()) });

test("images of the right channel are sent, everything else is rejected with a reason", async () => {
  const large = { path: "r/large.tif", file: { size: 201e6 } };
  const { items, rejected } = await planUpload(
    [
      choose("r/a_1d1_1_Ch1.tif"),
      choose("r/a_1d1_1_Ch4.tif"),
      choose("r/notes.txt"),
      choose("r/empty.png", ""),
      choose("r/.DS_Store"),
      large,
    ],
    MODEL,
  );
  assert.deepEqual(
    items.map(({ path, sample }) => [path, sample]),
    [["r/a_1d1_1_Ch1.tif", "r"]],
  );
  assert.equal(await (await items[0].read()).text(), "x");
  const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]));
  assert.match(reasons["r/a_1d1_1_Ch4.tif"], /channel 4.*channel 1/);
  assert.match(reasons["r/notes.txt"], /not an image/);
  assert.match(reasons["r/empty.png"], /empty/);
  assert.match(reasons["r/large.tif"], /200 MB/);
  assert.equal(rejected.length, 4);
});

test("a native file is an item of its own, of any size and whatever channel its name says", async () => {
  const large = { path: "lab/b_Ch4.RIF", file: { size: 3e9, slice: (start, stop) => [start, stop] } };
  for (const channels of [null, { 1: "brightfield", 6: "darkfield" }]) {
    const { items, rejected } = await planUpload([large, choose("lab/a.cif")], { ...MODEL, channels });
    assert.deepEqual(rejected, []);
    assert.deepEqual(
      items.map(({ path, native, sample, size }) => [path, native, sample, size]),
      [
        ["lab/b_Ch4.RIF", true, "lab/b_Ch4.RIF", 3e9],
        ["lab/a.cif", true, "lab/a.cif", 1],
      ],
    );
    assert.deepEqual(items[0].slice(5, 7), [5, 7]);
  }
});

test("files of instruments that hold no pixels are named with what to export, native ones in a zip and empty ones too", async () => {
  const zip = makeZip([{ name: "run/b.rif", content: "raw" }]);
  const chosen = [choose("a.CIF", ""), choose("a.daf"), choose("a.fcs", ""), { path: "run.zip", file: zip }];
  const { items, rejected } = await planUpload(chosen, MODEL);
  assert.deepEqual(items, []);
  const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]));
  assert.match(reasons["a.CIF"], /empty; copy it again/);
  assert.match(reasons["run/run/b.rif"], /native file of an instrument in a zip; unpack it/);
  assert.match(reasons["a.daf"], /analysis file.*no pixels.*export one TIFF per cell and channel/);
  assert.match(reasons["a.fcs"], /measurements and no images.*export one TIFF per cell and channel/);
});

test("a model without a channel takes images of every channel", async () => {
  const { items } = await planUpload([choose("a_1_Ch4.tif")], { channel: null, regex: null });
  assert.equal(items.length, 1);
});

test("zips are opened; one that cannot be is rejected and the others are kept", async () => {
  const zip = makeZip([{ name: "run_1/a.tif", content: "cell" }, { name: "__MACOSX/._a.tif" }]);
  const { items, rejected } = await planUpload([{ path: "good.ZIP", file: zip }, choose("bad.zip")], MODEL);
  assert.deepEqual(
    items.map(({ path, size }) => [path, size]),
    [["run_1/a.tif", 4]],
  );
  assert.deepEqual(
    rejected.map(({ path }) => path),
    ["bad.zip"],
  );
});

test("a dropped folder is walked, however many entries its reader returns at a time", async () => {
  const batches = [[entry("a.tif"), entry("b.tif")], [entry("c.tif")], []];
  const folder = { name: "run", createReader: () => ({ readEntries: (resolve) => resolve(batches.shift()) }) };
  const dropped = await fromTransfer({ items: [{ webkitGetAsEntry: () => folder }], files: [] });
  assert.deepEqual(
    dropped.map(({ path }) => path),
    ["run/a.tif", "run/b.tif", "run/c.tif"],
  );
});

test("files of an input keep their path in the chosen folder", () => {
  const chosen = fromInput({ files: [{ name: "a.tif", webkitRelativePath: "run/a.tif" }, { name: "b.tif" }] });
  assert.deepEqual(
    chosen.map(({ path }) => path),
    ["run/a.tif", "b.tif"],
  );
});

test("two zips with the same names are two samples, whose files are told apart", async () => {
  const zips = ["day1", "day3"].map((day) => ({
    path: `${day}.zip`,
    file: makeZip([
      { name: "0_Ch1.ome.tif", content: `cell of ${day}` },
      { name: "notes.txt", content: "fed" },
    ]),
  }));
  const { items, rejected } = await planUpload(zips, MODEL);
  const contents = await Promise.all(items.map(async (item) => (await item.read()).text()));
  assert.deepEqual(
    items.map(({ path, shown, sample }, i) => [path, shown, sample, contents[i]]),
    [
      ["0_Ch1.ome.tif", "day1/0_Ch1.ome.tif", "day1", "cell of day1"],
      ["0_Ch1.ome.tif", "day3/0_Ch1.ome.tif", "day3", "cell of day3"],
    ],
  );
  assert.deepEqual(
    rejected.map(({ path }) => path),
    ["day1/notes.txt", "day3/notes.txt"],
  );
});

test("what must not be read of a zip is rejected, and what a system adds is not mentioned", async () => {
  const names = ["a.tif", "../b.tif", "s/Thumbs.db", "s/desktop.ini", "s/~$notes.docx", "__MACOSX/._a.tif"];
  const file = makeZip(names.map((name) => ({ name, content: "x" })));
  const { items, rejected } = await planUpload([{ path: "lab.zip", file }, choose("Thumbs.db")], MODEL);
  assert.deepEqual(
    items.map(({ path }) => path),
    ["a.tif"],
  );
  assert.deepEqual(rejected, [{ path: "../b.tif", reason: "leads out of the zip; do not use this file" }]);
});

test("channels are told however they are written", async () => {
  const paths = ["1_ch01.TIF", "2 Ch 1.tif", "3_Channel1.tif", "4_C1.tif", "5_Ch1 (1).tif", "r\\6_Ch1 - Copy.tif"];
  const others = ["7_ch04.tif", "7_C4.tif", "7_Ch4 (1).tif", "s\\7_CH4.tif"];
  const chosen = [...paths, ...others].map((path) => choose(path));
  const { items, rejected } = await planUpload(chosen, MODEL);
  assert.equal(items.length, paths.length);
  assert.equal(rejected.length, others.length);
  assert.ok(rejected.every(({ reason }) => reason === "channel 4; the model uses channel 1 only"));
});

test("the files of one object are one item; an object without a channel is rejected", async () => {
  const model = { channel: "6", channels: { 1: "brightfield", 6: "darkfield" }, regex: null };
  const zips = ["one", "two"].map((name) => ({
    path: `${name}.zip`,
    file: makeZip([
      { name: "r/a_1_Ch1.tif", content: "b" },
      { name: "r/a_1_Ch4.tif", content: "m" },
      { name: "r/a_1_Ch06.tif", content: "dd" },
    ]),
  }));
  const { items, rejected } = await planUpload(
    [...zips, choose("s/a_2_Ch1.tif"), choose("s/a.tif"), choose("s/a_3_Ch1.tif"), choose("s/a_3_Ch6.tif")],
    model,
  );
  assert.deepEqual(
    items.map(({ path, shown, size }) => [path, shown, size]),
    [
      ["s/a_3_Ch6.tif", "s/a_3_Ch6.tif", 2],
      ["r/a_1_Ch06.tif", "one/r/a_1_Ch06.tif", 3],
      ["r/a_1_Ch06.tif", "two/r/a_1_Ch06.tif", 3],
    ],
  );
  assert.deepEqual(
    partsOf(items[1]).map(({ channel, item }) => [channel, item.path]),
    [
      ["6", "r/a_1_Ch06.tif"],
      ["1", "r/a_1_Ch1.tif"],
    ],
  );
  const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]));
  assert.equal(reasons["s/a_2_Ch1.tif"], "channel 6 of this cell is missing");
  assert.match(reasons["s/a.tif"], /its name says no channel; the model takes 6 and 1 of each cell/);
  assert.match(reasons["one/r/a_1_Ch4.tif"], /channel 4; the model uses channels 6 and 1 only/);
  assert.deepEqual(otherChannels({ thumbnails: { 1: "png", 6: "first" } }, model), [["1", "png"]]);
});
