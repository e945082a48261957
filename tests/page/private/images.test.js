// What the page decodes in the browser: the same pixels as Python, from files that tests/support/page_vectors.py wrote.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { ImageError } from "../../../service/page/private/image-error.js";
import { decodePages, place } from "../../../service/page/private/images.js";
import { thumbnail } from "../../../service/page/private/thumbnail.js";

const read = (name) => readFileSync(new URL(name, import.meta.url));
const VECTORS = JSON.parse(read("images.json"));
const CANVAS = [60, 80];

const digest = (pixels) => createHash("sha256").update(Uint16Array.from(pixels)).digest("hex");
const bytesOf = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

function describe({ header, pixels, error }) {
  if (error) return { error: error.code };
  const { height, width, bitDepth: bits } = header;
  const placed = new Uint16Array(CANVAS[0] * CANVAS[1]);
  place(pixels, height, width, CANVAS, placed);
  return { height, width, bits, pixels: digest(pixels), placed: digest(placed) };
}

async function decoded(bytes, name) {
  try {
    return { pages: (await decodePages(bytes, name)).map(describe) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { error: error.code };
  }
}

for (const { name, file, unsupported, ...expected } of VECTORS) {
  test(`${name} is decoded as in Python`, async () => {
    const found = await decoded(bytesOf(file), name);
    if (!unsupported) assert.deepEqual(found, expected);
    else assert.equal(found.error ?? found.pages[0].error, "unsupported");
  });
}

test("a damaged file is refused, and costs neither time nor memory", async () => {
  const corpus = new URL("../../corpus/", import.meta.url);
  for (const folder of ["images/", "reached/images/"]) {
    for (const name of readdirSync(new URL(folder, corpus))) {
      const start = performance.now();
      const found = await decoded(new Uint8Array(readFileSync(new URL(folder + name, corpus))), name);
      assert.ok(found.error || found.pages, name);
      assert.ok(performance.now() - start < 5_000, name);
    }
  }
});

test("a picture of a cell is a PNG of its pixels, stretched to their range", async () => {
  const pixels = Uint16Array.from({ length: 200 }, (_, i) => 1000 + i);
  const [page] = await decodePages(bytesOf(thumbnail(pixels, 10, 20)), "thumbnail");
  assert.deepEqual([page.header.height, page.header.width, page.header.bitDepth], [10, 20, 8]);
  assert.equal(page.pixels[0], 0);
  assert.equal(page.pixels.at(-1), 255);
  assert.equal(page.pixels[100], 127 + 1);
});
