import assert from "node:assert/strict";
import { test } from "node:test";

import { selectCells } from "../../service/page/ordering.js";
import { queueSentence } from "../../service/page/sentences.js";

const cell = (id, image_hash, label = "A") => ({ id, image_hash, label, probabilities: { A: 0.9, B: 0.1 } });

const elements = new Map();
const getElementById = (id) => elements.get(id) ?? elements.set(id, { addEventListener() {} }).get(id);
globalThis.document = { getElementById };
const { markQueued, showQueue } = await import("../../service/page/queue.js");

test("cells of a run are found in the queue by their answer, or by their image where it was sent before", () => {
  const cells = [cell("r-0", "5"), cell("r-1", "6"), cell("r-2", "7")];
  const waiting = [
    { id: "earlier-4", image_hash: "7" },
    { id: "r-0", image_hash: "5" },
  ];
  assert.equal(markQueued(cells, waiting), 2);
  assert.deepEqual(
    cells.map(({ queued }) => queued),
    [1, undefined, 0],
  );
  const shown = selectCells(cells, ["A", "B"], { order: "class", queue: true });
  assert.deepEqual(
    shown.map(({ id }) => id),
    ["r-2", "r-0"],
    "in the order of the queue, whatever the cells are ordered by",
  );
  assert.equal(markQueued(cells, []), 0);
  assert.equal(cells[0].queued, undefined);
});

test("the sentence says how many cells wait, and where they are", () => {
  const waiting = { drawn: 100, labelled: 40, cells: Array.from({ length: 60 }) };
  assert.match(
    queueSentence(waiting, 12),
    /^40 of 100 drawn cells have a label\. 12 of the others are among the cells below/,
  );
  assert.match(queueSentence(waiting, 0), /None of the others is among the cells below/);
  assert.match(queueSentence({ drawn: 0, labelled: 0, cells: [] }, 0), /^No cells wait for a label/);
  assert.match(queueSentence({ drawn: 100, labelled: 100, cells: [] }, 0), /^All 100 drawn cells have a label/);
  assert.match(
    queueSentence({ drawn: 2, labelled: 1, cells: [{}] }, 1),
    /^1 of 2 drawn cells has a label\. 1 of the others is among the cells below: label it/,
  );
  assert.match(queueSentence({ drawn: 1, labelled: 1, cells: [] }, 0), /^The drawn cell has a label/);
  for (const cells of [[], waiting.cells]) {
    assert.match(queueSentence({ ...waiting, cells, disputed: [{}, {}] }, 0), /Of 2 people say different things/);
  }
});

test("who has no queue, or a key that may not label, sees none; what goes wrong otherwise is told", async () => {
  globalThis.sessionStorage = { getItem: () => null };
  for (const [code, hidden] of [
    ["no_records", true],
    ["scope", true],
    ["internal", false],
  ]) {
    const body = { error: { code, message: "why" } };
    globalThis.fetch = async () => ({ ok: false, status: 400, json: async () => body, headers: new Map() });
    getElementById("queue").hidden = !hidden;
    await showQueue({ model: { task: "binary" }, classified: [] });
    assert.equal(getElementById("queue").hidden, hidden, code);
  }
  assert.match(getElementById("queue-text").textContent, /could not be asked for: why$/);
});
