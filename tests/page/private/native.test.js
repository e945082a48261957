// What the page decodes of native files: the same pixels as Python, from files that tests/support/page_vectors.py wrote.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ImageError } from "../../../service/page/private/image-error.js";
import { NativeFile } from "../../../service/page/private/native-file.js";

const VECTORS = JSON.parse(readFileSync(new URL("native.json", import.meta.url)));
const SPEC = { channel: "1", channels: { 1: "brightfield" } };

const digest = (pixels) => createHash("sha256").update(Uint16Array.from(pixels)).digest("hex");

function describe({ object, pages: [{ header, pixels, error }] }) {
  if (error) return { object, error: error.code };
  return { object, height: header.height, width: header.width, pixels: digest(pixels) };
}

async function decoded(blob, name, atOnce) {
  const cells = [];
  let native = null;
  try {
    native = await NativeFile.open(blob, name, SPEC);
    for (;;) {
      const { objects, ended, problem } = await native.next(atOnce);
      cells.push(...objects.map(describe));
      if (problem) cells.push({ error: problem.code });
      if (ended) break;
    }
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    cells.push({ error: error.code });
  }
  return { objects: native?.objects ?? null, cells };
}

for (const { name, file, objects, cells } of VECTORS) {
  test(`${name} is decoded as in Python`, async () => {
    const blob = new Blob([Buffer.from(file, "base64")]);
    for (const atOnce of [1, 100]) {
      const found = await decoded(blob, name, atOnce);
      assert.deepEqual(found.cells, cells);
      if (found.objects !== null) assert.equal(found.objects, objects);
    }
  });
}
