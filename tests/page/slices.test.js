import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { MAX_CELLS, MAX_PICTURES, Run } from "../../service/page/run.js";
import { progress, uploadSummary } from "../../service/page/sentences.js";
import { classifyNatives } from "../../service/page/slices.js";

const MODEL = { task: "binary", classes: ["A"] };
const SIZE = 2_000_000_000;
const SPAN = 8_000_000;
const native = (path = "run.cif", size = SIZE) => ({
  path,
  size,
  native: true,
  sample: path,
  read: null,
  slice: (start, stop) => {
    held.push(stop - start);
    return { arrayBuffer: async () => new ArrayBuffer(4) };
  },
});
const respond = (status, body) => new Response(JSON.stringify(body), { status });
const cell = (label = "A") => ({ file: "run.cif", label, verdict: "sure", thumbnail: "png", figures: [1] });
const next = (start) => ({
  cursor: `c${start}`,
  slices: [
    { start: 0, stop: 300 },
    { start, stop: start + SPAN },
  ],
});
const answer = (cells, following, objects = 5) => ({
  model: { name: "m", version: "1" },
  request_id: "r",
  objects,
  cells,
  next: following,
});

let held = [];
let requests = [];

/** Respond to requests in turn with `answers`, and then as a file of `SIZE` whose slices hold two cells each. */
function serve(...answers) {
  globalThis.fetch = async (path, { body }) => {
    const query = new URLSearchParams(path.split("?")[1]);
    const offsets = query.getAll("offset").map(Number);
    requests.push({ query, offsets, parts: body.getAll("slices").length });
    const following = offsets.at(-1) + SPAN;
    const whole = () => respond(200, answer([cell(), cell()], following < SIZE ? next(following) : null));
    return (answers.shift() ?? whole)();
  };
}

function handlersOf(run, log = []) {
  return {
    onSlices: (item, response) => {
      const goOn = run.addSlices(item, response);
      log.push([progress(run), run.fraction]);
      return goOn;
    },
    onFailure: (items, error) => run.addFailure(items, error),
    onWait: () => {},
  };
}

function begin(...items) {
  const run = new Run(MODEL, items.length);
  run.begin(items);
  return run;
}

const send = (run, items, log) => classifyNatives(items, MODEL, run.controller.signal, handlersOf(run, log));

beforeEach(() => {
  [held, requests] = [[], []];
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.addEventListener = globalThis.removeEventListener = () => {};
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
  mock.method(globalThis, "setTimeout", (act) => queueMicrotask(act));
});
afterEach(() => mock.restoreAll());

test("a file of 2 GB is read and sent in slices, as the service asks for them, with progress", async () => {
  serve();
  const item = native();
  const run = begin(item);
  const log = [];
  await send(run, [item], log);
  assert.equal(requests.length, SIZE / SPAN);
  assert.ok(held.every((size) => size <= SPAN));
  assert.ok(held.reduce((sum, size) => sum + size, 0) < 1.01 * SIZE);
  assert.deepEqual(requests[0].offsets, [0]);
  assert.equal(requests[0].query.has("cursor"), false);
  assert.deepEqual([requests[1].offsets, requests[1].parts], [[0, SPAN], 2]);
  assert.equal(requests[1].query.get("cursor"), `c${SPAN}`);
  assert.deepEqual(
    ["name", "size", "details", "task"].map((name) => requests[1].query.get(name)),
    ["run.cif", String(SIZE), "true", "binary"],
  );
  assert.equal(run.cells.length, 500);
  assert.deepEqual([run.cells[0].item, run.cells[0].sample], [item, "run.cif"]);
  const shares = log.map(([, fraction]) => fraction);
  assert.deepEqual([shares[0], shares[124], shares.at(-1)], [0.004, 0.5, 1]);
  assert.equal(log[1][0], "0 of 1 file processed … run.cif: 4 of 5 objects.");
  run.finish();
  assert.equal(progress(run), "1 of 1 file processed.");
  assert.deepEqual(run.missing, []);
});

test("a file that failed midway goes on there, and no cell comes twice", async () => {
  serve(
    () => respond(200, answer([cell()], next(SPAN))),
    () => respond(400, { error: { code: "form", message: "broken" } }),
  );
  const item = native();
  const run = begin(item);
  await send(run, [item]);
  run.finish();
  assert.deepEqual([run.missing, run.failure, run.cells.length], [[item], "broken", 1]);
  assert.equal(progress(run), "0 of 1 file processed. 1 file could not be sent: broken.");
  serve(() => respond(200, answer([cell(), cell()], null)));
  run.begin([item]);
  await send(run, [item]);
  assert.equal(requests.at(-1).query.get("cursor"), `c${SPAN}`);
  assert.deepEqual([run.missing, run.cells.length], [[], 3]);
});

test("a busy service is asked again, and the other files are sent where one fails", async () => {
  serve(
    () => respond(503, { error: { code: "overloaded", message: "later" } }),
    () => respond(200, answer([cell()], null)),
  );
  const gone = { ...native("gone.cif"), slice: () => ({ arrayBuffer: () => Promise.reject(new Error("x")) }) };
  const item = native();
  const run = begin(gone, item);
  await send(run, [gone, item]);
  assert.equal(run.failures.get(gone), "gone.cif cannot be read any more; choose it again");
  assert.deepEqual([run.cells.length, run.missing], [1, [gone]]);
});

test("a cancelled file is not sent further", async () => {
  const item = native();
  const run = begin(item);
  serve(() => {
    run.controller.abort();
    return respond(200, answer([cell()], next(SPAN)));
  });
  await send(run, [item]);
  assert.equal(requests.length, 1);
  assert.deepEqual(run.missing, [item]);
});

test("the page holds as many cells as can be summarised, the pictures of the first, and says so", async () => {
  const item = native();
  const run = begin(item);
  const many = (count) => Array.from({ length: count }, () => cell());
  serve(...Array.from({ length: 101 }, (_, i) => () => respond(200, answer(many(999), next((i + 1) * SPAN), 212_000))));
  await send(run, [item]);
  run.finish();
  assert.equal(run.cells.length, MAX_CELLS);
  assert.equal(run.cells.filter(({ thumbnail }) => thumbnail).length, MAX_PICTURES);
  assert.ok(run.cells.every(({ figures }) => figures));
  assert.equal(
    progress(run),
    "1 of 1 file processed. run.cif: only the first 100,000 of 212,000 objects, because the page holds 100,000 cells; fatescope score does the whole file.",
  );
  assert.deepEqual(run.missing, []);
});

test("a file that just fits is not said to be cut", async () => {
  const item = native();
  const run = begin(item);
  run.cells.length = MAX_CELLS - 2;
  serve(() => respond(200, answer([cell(), cell()], null)));
  await send(run, [item]);
  run.finish();
  assert.equal(progress(run), "1 of 1 file processed.");
});

test("what will be sent is said with its size", () => {
  const image = { sample: "r1", path: "r1/a.tif", size: 10 };
  assert.equal(
    uploadSummary([native(), native("b.rif", 150_000_000), image]),
    "2 native files (2.15 GB) and 1 image in 3 samples will be sent to this service and classified.",
  );
});
