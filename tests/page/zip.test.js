import assert from "node:assert/strict";
import { test } from "node:test";

import { readZip } from "../../service/page/zip.js";
import { makeZip } from "./zips.js";

test("files of a zip are listed with their sizes and unpacked one by one", async () => {
  const text = "cell ".repeat(1000);
  const zip = makeZip([
    { name: "run_1/", method: 0 },
    { name: "run_1/a.tif", content: text },
    { name: "run_1\\b.tif", content: "stored", method: 0 },
    { name: "Größe/c.tif", content: "ü" },
  ]);
  const items = await readZip(zip);
  assert.deepEqual(
    items.map(({ path, size }) => [path, size]),
    [
      ["run_1/a.tif", 5000],
      ["run_1/b.tif", 6],
      ["Größe/c.tif", 2],
    ],
  );
  const files = await Promise.all(items.map((item) => item.read()));
  assert.deepEqual(
    files.map((file) => file.name),
    ["a.tif", "b.tif", "c.tif"],
  );
  assert.deepEqual(await Promise.all(files.map((file) => file.text())), [text, "stored", "ü"]);
});

test("a comment after the directory does not hide it", async () => {
  const [item] = await readZip(makeZip([{ name: "a.tif" }], { comment: "exported by IDEAS" }));
  assert.equal(item.path, "a.tif");
});

test("a file that is no zip, or damaged, or too large for this reader is refused with advice", async () => {
  await assert.rejects(readZip(new File(["PK no zip"], "a.zip")), /cannot be opened.*drop the folder/);
  await assert.rejects(readZip(new File([""], "a.zip")), /cannot be opened/);
  await assert.rejects(readZip(makeZip([{ name: "a.tif" }], { count: 2 })), /damaged/);
  await assert.rejects(readZip(makeZip([{ name: "a.tif" }], { count: 0xffff })), /65,534 files or 4 GB/);
});

test("files that a browser cannot unpack say why when they are read", async () => {
  const [encrypted, lzma] = await readZip(
    makeZip([
      { name: "a.tif", flags: 1 },
      { name: "b.tif", method: 14 },
    ]),
  );
  await assert.rejects(encrypted.read(), /a\.tif: encrypted/);
  await assert.rejects(lzma.read(), /b\.tif: /);
});
