import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { classifyInChunks, intoChunks } from "../../service/page/upload.js";

const item = (path, size = 10) => ({ path, size, read: async () => new File(["x".repeat(10)], path) });
const items = (count) => Array.from({ length: count }, (_, i) => item(`${i}.tif`));
const respond = (status, body = {}, headers = {}) => new Response(JSON.stringify(body), { status, headers });

let requests = [];
let log = [];
const handlers = {
  onResponse: (chunk) => log.push(["response", chunk.length]),
  onFailure: (chunk, error) => log.push(["failure", chunk.length, error.message]),
  onWait: (reason) => log.push(["wait", reason !== null]),
};

/** Respond to requests in turn with what `answers` return for their files; those beyond succeed. */
function serve(...answers) {
  globalThis.fetch = async (path, options) => {
    const files = options.body.getAll("files");
    requests.push({ path, files });
    return (answers.shift() ?? (() => respond(200)))(files);
  };
}

beforeEach(() => {
  [requests, log] = [[], []];
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.addEventListener = globalThis.removeEventListener = () => {};
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
  // Pauses end at once.
  mock.method(globalThis, "setTimeout", (act) => queueMicrotask(act));
});
afterEach(() => mock.restoreAll());

// Two chunks are sent at a time; which ends first does not matter.
const chunkSizes = (kind) =>
  log
    .filter((entry) => entry[0] === kind)
    .map((entry) => entry[1])
    .sort((a, b) => a - b);
const model = { task: "a b", max_cells: 20_000 };
const classify = (list, signal = new AbortController().signal) => classifyInChunks(list, model, signal, handlers);

test("chunks have at most 100 files and 8 MB, and keep the order", () => {
  assert.deepEqual(
    intoChunks(items(250)).map((chunk) => chunk.length),
    [100, 100, 50],
  );
  const large = [5e6, 2e6, 2e6, 9e6, 1].map((size, i) => item(`${i}`, size));
  assert.deepEqual(
    intoChunks(large).map((chunk) => chunk.map(({ path }) => path)),
    [["0", "1"], ["2"], ["3"], ["4"]],
  );
  assert.deepEqual(intoChunks([]), []);
});

test("chunks have no more files than a request may have cells", async () => {
  serve();
  await classifyInChunks(items(100), { ...model, max_cells: 40 }, new AbortController().signal, handlers);
  assert.deepEqual(chunkSizes("response"), [20, 40, 40]);
});

test("every chunk is sent with its files, to the task", async () => {
  serve();
  await classify(items(150));
  assert.deepEqual(chunkSizes("response"), [50, 100]);
  assert.equal(requests[0].path, "classify_batch?details=true&task=a%20b");
  const sent = requests.flatMap(({ files }) => files.map((file) => file.name));
  assert.equal(new Set(sent).size, 150);
});

test("a request that took too long to compute is not computed again", async () => {
  serve(() => respond(504, { error: { code: "timeout", message: "too long" } }));
  await classify(items(1));
  assert.deepEqual(log, [["failure", 1, "too long"]]);
});

test("a service that is busy or away is asked again", async () => {
  serve(
    () => respond(503),
    () => respond(429, {}, { "Retry-After": "1" }),
    () => Promise.reject(new TypeError("network")),
  );
  await classify(items(1));
  assert.equal(requests.length, 4);
  assert.deepEqual(log.at(-1), ["response", 1]);
});

test("a chunk fails after five attempts and the others do not", async () => {
  serve(...Array.from({ length: 5 }, () => () => respond(500)));
  await classify([item("large", 8e6)]);
  assert.equal(requests.length, 5);
  assert.equal(log.at(-1)[0], "failure");
});

test("a request that is refused is not repeated", async () => {
  const refuseLarge = (files) =>
    files.length < 100 ? respond(200) : respond(413, { error: { code: "body_too_large", message: "too many bytes" } });
  serve(refuseLarge, refuseLarge);
  await classify(items(120));
  assert.equal(requests.length, 2);
  assert.deepEqual(
    log.find(([kind]) => kind === "failure"),
    ["failure", 100, "too many bytes"],
  );
  assert.deepEqual(chunkSizes("response"), [20]);
});

test("a file that cannot be read does not cost the others of its chunk", async () => {
  serve();
  const broken = { path: "b.tif", size: 1, read: () => Promise.reject(new Error("b.tif: encrypted")) };
  await classify([item("a.tif"), broken]);
  assert.deepEqual(log, [
    ["failure", 1, "b.tif: encrypted"],
    ["response", 2],
  ]);
  assert.deepEqual(
    requests[0].files.map((file) => file.name),
    ["a.tif"],
  );
  await classify([broken]);
  assert.equal(requests.length, 1, "nothing is sent without a file");
});

test("what is cancelled ends without a failure and sends nothing more", async () => {
  const controller = new AbortController();
  serve(() => {
    controller.abort();
    return Promise.reject(new DOMException("aborted", "AbortError"));
  });
  await classify([...items(99), item("a", 9e6), item("b", 9e6), item("c", 9e6)], controller.signal);
  assert.ok(requests.length <= 2);
  assert.deepEqual(
    log.filter(([kind]) => kind === "failure"),
    [],
  );
});

test("each cell gets the item that it was sent as, also where a name is there twice or a file was left out", async () => {
  const broken = { path: "x.tif", size: 1, read: () => Promise.reject(new Error("x")) };
  const chunk = [broken, item("0.tif"), item("0.tif")];
  const cells = [1, 0, 1].map((upload) => ({ file: "0.tif", upload }));
  serve(() => respond(200, { cells }));
  const received = [];
  const onResponse = (_, response) => received.push(...response.cells);
  await classifyInChunks(chunk, "a", new AbortController().signal, { ...handlers, onResponse });
  assert.deepEqual(
    received.map((cell) => chunk.indexOf(cell.item)),
    [2, 1, 2],
  );
});

test("all files of a cell with several channels are in one request, and its result is that of the cell", async () => {
  const part = (name, channel) => ({ channel, item: item(`${name}_Ch${channel}.tif`) });
  const object = (name) => ({ ...item(`${name}_Ch1.tif`), size: 20, parts: [part(name, "1"), part(name, "6")] });
  const cells = ["a", "b"].map(object);
  serve(() =>
    respond(200, {
      cells: [
        { file: "a_Ch1.tif", upload: 0 },
        { file: "b_Ch1.tif", upload: 2 },
      ],
    }),
  );
  let found = [];
  await classifyInChunks(cells, model, new AbortController().signal, {
    ...handlers,
    onResponse: (_, response) => (found = response.cells.map((cell) => cell.item)),
  });
  assert.deepEqual(
    requests[0].files.map((file) => file.name),
    ["a_Ch1.tif", "a_Ch6.tif", "b_Ch1.tif", "b_Ch6.tif"],
  );
  assert.deepEqual(found, cells);
});
