import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { crc32 } from "node:zlib";

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

test("a zip after other bytes, as one that unpacks itself, is read", async () => {
  const files = ["a.tif", "b.tif"].map((name) => ({ name, content: `cell ${name}` }));
  const items = await readZip(makeZip(files, { prefix: `MZ${"\0".repeat(500)}`, comment: "by an instrument" }));
  const contents = await Promise.all(items.map(async (item) => (await item.read()).text()));
  assert.deepEqual(contents, ["cell a.tif", "cell b.tif"]);
});

test("names are read in the code page of the machine that wrote them", async () => {
  const unicode = (bytes, path) => {
    const extra = Buffer.alloc(9);
    extra.writeUInt16LE(0x7075, 0);
    extra.writeUInt16LE(5 + Buffer.byteLength(path), 2);
    extra.writeUInt8(1, 4);
    extra.writeUInt32LE(crc32(bytes), 5);
    return Buffer.concat([extra, Buffer.from(path)]);
  };
  const cases = [
    [Buffer.from("Gr\x94\xe1e/1.tif", "latin1"), "Größe/1.tif"], // code page 437
    [Buffer.from("p\x83te_n\x82/1.tif", "latin1"), "pâte_né/1.tif"],
    [Buffer.from("\x83T\x83\x93\x83v\x83\x8b/1.tif", "latin1"), "サンプル/1.tif"], // Shift-JIS
    [Buffer.from("\x8d\xd7\x96E1/1.tif", "latin1"), "細胞1/1.tif"],
    ["サンプル/2.tif", "サンプル/2.tif"], // UTF-8 without its flag
    ["Gro\u0308ße/2.tif", "Größe/2.tif"], // as macOS writes it
    [".\\a\\3.tif", "a/3.tif"],
    ["b//./4.tif", "b/4.tif"],
  ];
  const name = Buffer.from("Gr\xf6\xdfe/5.tif", "latin1");
  const files = [...cases.map(([bytes]) => ({ name: bytes })), { name, extra: unicode(name, "Größe/5.tif") }];
  const items = await readZip(makeZip(files));
  assert.deepEqual(
    items.map(({ path }) => path),
    [...cases.map(([, path]) => path), "Größe/5.tif"],
  );
});

test("entries that must not be read say why, and folders are none", async () => {
  const items = await readZip(
    makeZip([
      { name: "run\\" },
      { name: "old", attributes: 0x10 },
      { name: "/a.tif", content: "x" },
      { name: "run\\..\\..\\a.tif", content: "x" },
      { name: "C:\\a.tif", content: "x" },
      { name: "link.tif", content: "x", attributes: 0o120777 * 0x10000 },
      { name: "locked.tif", content: "x", flags: 1 },
      { name: "run_1.zip", content: "x" },
      { name: "s/twice.tif", content: "x" },
      { name: "s\\twice.tif", content: "y" },
      { name: "a..b.tif", content: "x" },
    ]),
  );
  assert.deepEqual(
    items.map(({ path, problem }) => [path, problem.split(";")[0]]),
    [
      ["/a.tif", "leads out of the zip"],
      ["run/../../a.tif", "leads out of the zip"],
      ["C:/a.tif", "leads out of the zip"],
      ["link.tif", "a link, which may lead out of the zip"],
      ["locked.tif", "encrypted"],
      ["run_1.zip", "a zip in a zip"],
      ["s/twice.tif", "the zip holds it twice"],
      ["a..b.tif", ""],
    ],
  );
});
