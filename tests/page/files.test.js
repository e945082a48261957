import assert from "node:assert/strict";
import { test } from "node:test";

import { fromInput, fromTransfer, planUpload } from "../../service/page/files.js";
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

test("raw files of instruments are named with what to export, in a zip too", async () => {
  const zip = makeZip([{ name: "run/b.rif", content: "raw" }]);
  const chosen = [choose("a.CIF"), choose("a.daf"), choose("a.fcs", ""), { path: "run.zip", file: zip }];
  const { items, rejected } = await planUpload(chosen, MODEL);
  assert.deepEqual(items, []);
  const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [path, reason]));
  assert.match(reasons["a.CIF"], /raw file of an Amnis instrument.*export one TIFF per cell and channel/);
  assert.equal(reasons["run/run/b.rif"], reasons["a.CIF"]);
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
