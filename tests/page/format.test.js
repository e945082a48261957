import assert from "node:assert/strict";
import { test } from "node:test";

import { forTask, request } from "../../service/page/api.js";
import { agree, interval, list, number, percent, plural, round } from "../../service/page/format.js";

test("numbers are written for readers", () => {
  assert.equal(percent(0.456), "46%");
  assert.equal(round(1234.5), "1,230");
  assert.equal(round(0.012345), "0.012");
  assert.equal(number(12345), "12,345");
  assert.equal(plural(1, "image"), "1 image");
  assert.equal(plural(0, "image"), "0 images");
  assert.equal(plural(1200, "image"), "1,200 images");
  assert.equal(plural(1, "class is", "classes are"), "1 class is");
  assert.equal(plural(2, "class is", "classes are"), "2 classes are");
  assert.deepEqual(
    [0, 1, 2].map((count) => agree(count, "is", "are")),
    ["are", "is", "are"],
  );
  assert.equal(interval(0, 0.524), "0–52%");
  assert.deepEqual(
    [[], ["a"], ["a", "b"], ["a", "b", "c"]].map((words) => list(words)),
    ["", "a", "a and b", "a, b and c"],
  );
  assert.equal(list(["8-bit", "12-bit"], "or"), "8-bit or 12-bit");
});

test("the task joins the query of a path", () => {
  assert.equal(forTask("summarise", "RA/SHH"), "summarise?task=RA%2FSHH");
  assert.equal(forTask("classify?explain=true", "a"), "classify?explain=true&task=a");
});

test("an error of the service keeps its code; one without a body still has a message", async () => {
  globalThis.sessionStorage = { getItem: () => "secret" };
  const answers = [
    new Response(JSON.stringify({ error: { code: "overloaded", message: "busy" } }), {
      status: 429,
      headers: { "Retry-After": "3" },
    }),
    new Response("<html>", { status: 502 }),
  ];
  let sent = null;
  globalThis.fetch = async (_, options) => {
    sent = options.headers;
    return answers.shift();
  };
  await assert.rejects(request("models"), { status: 429, code: "overloaded", message: "busy", retryAfter: 3 });
  assert.equal(sent.Authorization, "Bearer secret");
  await assert.rejects(request("models"), { status: 502, code: "unknown", message: /502/ });
});
