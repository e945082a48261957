import assert from "node:assert/strict";
import { test } from "node:test";

import { describedSample } from "../../service/page/description.js";
import { descriptionSource } from "../../service/page/sentences.js";

const MODEL = { task: "binary", classes: ["astrocyte", "NT3"] };
const CELLS = [
  { label: "NT3", verdict: "sure", sample: "donor 17", file: "secret.tif", quality: ["focus"], thumbnail: "abc" },
  { label: "NT3", verdict: "unsure", sample: "donor 17", file: "b.tif", quality: [], warnings: [{ code: "lossy" }] },
  { label: "astrocyte", verdict: "unlike_training", quality: [], warnings: [{ code: "size", message: "large" }] },
];
const RUN = {
  model: MODEL,
  lastResponse: { model: { name: "fatescope-binary", version: "7" } },
  unreadable: [{ sample: "donor 17" }, { sample: "another" }],
};
const SUMMARY = {
  composition: { astrocyte: { share: 0.4, low: 0.3, high: 0.5 }, NT3: { share: 0.6, low: 0.5, high: 0.7 } },
  differences: [{ figure: "background", name: "brightness of the background", here: 3, known: 2, edges: [0, 1] }],
};

test("the service gets the figures of a sample alone", () => {
  const body = describedSample(RUN, "donor 17", { cells: CELLS, summary: SUMMARY, excludesOutside: true });
  assert.deepEqual(body, {
    task: "binary",
    version: "7",
    culture: {
      cells: 3,
      refused: 1,
      sure: 1,
      unsure: 1,
      unlike_training: 1,
      outside: 1,
      outside_reasons: { focus: 1, doublet: 0, debris: 0, clipped: 0, saturated: 0 },
      called: { astrocyte: 1, NT3: 2 },
      composition: SUMMARY.composition,
      outside_excluded: true,
      differences: [{ figure: "background", here: 3, known: 2 }],
      lossy: 1,
      followed: 0,
      unusual_sizes: 1,
    },
  });
  const sent = JSON.stringify(body);
  for (const name of ["donor", "secret", "abc"]) assert.ok(!sent.includes(name), name);
});

test("the service is told how many cells have several images", () => {
  const { culture } = describedSample(RUN, "s", { cells: CELLS, summary: SUMMARY, followed: 1 });
  assert.deepEqual([culture.cells, culture.followed], [3, 1]);
});

test("it says who wrote", () => {
  assert.equal(
    descriptionSource({ source: "template", model: null, why: "no language model is set up" }),
    "Written from a template: no language model is set up.",
  );
  assert.match(
    descriptionSource({ source: "model", model: "llava", why: null }),
    /^Written by the language model llava/,
  );
});
