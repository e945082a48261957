import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import {
  AUTOMATIC_BYTES,
  bytesToAskFor,
  mapOf,
  mapSentences,
  merge,
  reasonWithoutMap,
  signed,
} from "../../service/page/maps.js";

globalThis.sessionStorage = { getItem: () => null };
const { fetch } = globalThis;
afterEach(() => {
  globalThis.fetch = fetch;
});

const MAP = { label: "A", png: "", scale: 0.3149, total: -1.92, rows: 8, columns: 8 };

test("the scale is told in the unit of the map", () => {
  const sentences = mapSentences({ ...MAP, version: "3" }, "3");
  assert.equal(sentences[0], "Red areas are evidence for A, blue areas against it.");
  assert.equal(
    sentences[1],
    "The map has 8 × 8 positions: one at full red adds +0.31 to the logit of A, one at full blue adds −0.31. All together add −1.9.",
  );
  assert.equal(sentences.length, 4);
  assert.match(sentences[3], /A may still be the most probable class/);
  assert.equal(mapSentences({ ...MAP, total: 1, version: "3" }, "3").length, 3);
  assert.match(mapSentences({ ...MAP, version: "4" }, "3").at(-1), /Version 4 .* version 3 has classified/);
  assert.match(mapSentences({ ...MAP, scale: 0, version: "3" }, "3")[1], /No position/);
});

test("numbers have their sign", () => {
  assert.deepEqual([0.314, -1.92, 0, 0.001, 12.3].map(signed), ["+0.31", "−1.9", "0", "0", "+12"]);
});

test("slices that touch are one, and end with the file", () => {
  const spans = (...pairs) => pairs.map(([start, stop]) => ({ start, stop }));
  assert.deepEqual(merge(spans([50, 90], [0, 10], [5, 20]), 70), spans([0, 20], [50, 70]));
  assert.deepEqual(merge(spans([0, 100], [40, 60], [200, 300]), 120), spans([0, 100]));
});

test("why there is no map", () => {
  assert.match(reasonWithoutMap({}), /not known/);
  assert.match(reasonWithoutMap({ item: { gone: true } }), /kept without the image files/);
  assert.match(reasonWithoutMap({ item: { native: true } }), /not known/);
  assert.equal(reasonWithoutMap({ item: { native: true }, place: "1-1-9-0" }), null);
  assert.equal(reasonWithoutMap({ item: {} }), null);
});

test("a large file of many pages is not sent again unasked", () => {
  const item = { size: AUTOMATIC_BYTES + 1 };
  assert.equal(bytesToAskFor({ item, page: 3 }), AUTOMATIC_BYTES + 1);
  assert.equal(bytesToAskFor({ item, page: null }), 0);
  assert.equal(bytesToAskFor({ item: { size: 10 }, page: 3 }), 0);
});

test("of a native file the header and the object are sent, and the header is learned once", async () => {
  const sent = [];
  globalThis.fetch = async (path, { body }) => {
    const query = new URLSearchParams(path.split("?")[1]);
    sent.push(query.getAll("offset").map(Number));
    assert.equal(body.getAll("slices").length, sent.at(-1).length);
    const [label, place] = [query.get("label"), query.get("place")];
    const next = {
      cursor: place,
      slices: [
        { start: 0, stop: 9 },
        { start: 2e6, stop: 2e6 + 5 },
        { start: 5e6, stop: 6e6 },
      ],
    };
    const knows = sent.at(-1).includes(2e6);
    const answer = {
      model: { version: "3" },
      activation_map: knows ? { ...MAP, label } : null,
      next: knows ? null : next,
    };
    return new Response(JSON.stringify(answer), { status: 200 });
  };
  const item = {
    native: true,
    path: "a.cif",
    size: 8e6,
    slice: (start, stop) => new Blob([new Uint8Array(stop - start)]),
  };
  const first = { item, label: "A", place: "0-0-5000000-0" };
  assert.deepEqual(await mapOf(first, "t"), { ...MAP, label: "A", version: "3" });
  assert.deepEqual(sent, [
    [0, 5e6],
    [0, 2e6, 5e6],
  ]);
  await mapOf(first, "t");
  await mapOf({ item, label: "B", place: "1-1-7000000-0" }, "t");
  assert.deepEqual(sent.slice(2), [[0, 2e6, 7e6]], "once for each cell, and in one request");
});
