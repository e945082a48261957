// What may leave the page while images stay in the browser: what asks for models, and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";

import { answerRequests, request } from "../../../service/page/api.js";
import { Answers } from "../../../service/page/private/answers.js";
import { uploadSummary } from "../../../service/page/sentences.js";

const MODEL = { task: "binary", classes: ["A"], model: { name: "m", version: "1" } };
const answers = new Answers();

function answering(sent) {
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.fetch = async (path) => {
    sent.push(path);
    return new Response("{}");
  };
  answerRequests((path, options) => answers.answer(path, options, MODEL));
}

test("requests for models go to the service, and no others", async () => {
  const sent = [];
  answering(sent);
  const free = ["models", "card/binary", "examples/binary", "sample/binary", "bundle/binary/spec.json", "key"];
  for (const path of free) await request(path);
  assert.deepEqual(sent, free);
  const body = new FormData();
  for (const path of ["feedback?task=binary", "classify?explain=true", "classify_slices", "models", "later"]) {
    await assert.rejects(request(path, { method: "POST", body }), { code: "private" });
  }
  for (const path of ["later?file=a_1.tif", "compare/binary", "page/later"]) {
    await assert.rejects(request(path), { code: "private" });
  }
  await assert.rejects(request("queue?task=binary"), { code: "no_records" });
  await assert.rejects(request("export?format=fcs", { method: "POST", body: "{}" }), { code: "private" });
  assert.deepEqual(sent, free);
});

test("the results are written here", async () => {
  const sent = [];
  answering(sent);
  const results = { model: MODEL.model, task: "binary", sample: { called: { A: 0 } }, cells: [] };
  const response = await request("export?format=csv", { method: "POST", body: JSON.stringify(results) });
  assert.match(await (await response.blob()).text(), /^\ufeff?sample,file,page,object,label/);
  assert.match(response.headers.get("Content-Disposition"), /fatescope-binary\.csv/);
  assert.deepEqual(sent, []);
});

test("it is said before that nothing is sent", () => {
  const items = [{ path: "a.tif", sample: "s", size: 1 }];
  assert.equal(uploadSummary(items), "1 image in 1 sample will be sent to this service and classified.");
  assert.equal(uploadSummary(items, true), "1 image in 1 sample will be classified in this browser, and not be sent.");
});
