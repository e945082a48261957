import assert from "node:assert/strict";
import { test } from "node:test";

import { limits } from "../../service/page/report.js";
import {
  composition,
  differenceLine,
  modelScope,
  progress,
  qualityCounts,
  qualitySentence,
  rejectionLines,
  unreadableLine,
  uploadSummary,
  verdictCounts,
  verdictSentence,
} from "../../service/page/sentences.js";
import { Run } from "../../service/page/run.js";

const MODEL = {
  task: "multiclass",
  classes: ["astrocyte", "oligodendrocyte", "NT3"],
  channel: "1",
  bit_depths: [8, 12],
  height_px: [36, 56],
  width_px: [48, 76],
  simulated: true,
};
const cells = (sure, unsure, unlike) => [
  ...Array.from({ length: sure }, () => ({ verdict: "sure" })),
  ...Array.from({ length: unsure }, () => ({ verdict: "unsure" })),
  ...Array.from({ length: unlike }, () => ({ verdict: "unlike_training" })),
];
const share = (value, low, high) => ({ share: value, low, high });

test("the scope of a model names its classes and the images it expects", () => {
  assert.equal(
    modelScope(MODEL),
    "This model distinguishes astrocyte, oligodendrocyte and NT3. " +
      "It expects 8-bit or 12-bit brightfield images (channel 1) of about 48–76 × 36–56 px.",
  );
  assert.match(modelScope({ ...MODEL, channel: null, bit_depths: [16] }), /16-bit brightfield images of about/);
});

test("what is sent and what is not is said before anything is sent", () => {
  const items = [{ sample: "r1" }, { sample: "r2" }, { sample: "r1" }];
  assert.equal(uploadSummary(items), "3 images in 2 samples will be sent to this service and classified.");
  assert.match(uploadSummary([]), /None of these files/);
  assert.deepEqual(
    rejectionLines([
      { path: "a.txt", reason: "not an image" },
      { path: "b.tif", reason: "empty" },
      { path: "c.txt", reason: "not an image" },
    ]),
    ["2 files, for example a.txt: not an image.", "b.tif: empty."],
  );
});

test("what is outside the quality gates is counted by reason, and said of each cell", () => {
  const judged = [{ quality: [] }, { quality: ["focus"] }, { quality: ["doublet", "focus"] }, { quality: [] }];
  assert.equal(
    qualityCounts(judged, true),
    "2 of 4 cells outside the quality gates: out of focus 2, more than one cell 1 (not counted in the composition)",
  );
  assert.match(qualityCounts(judged, false), /\(counted in the composition\)$/);
  assert.equal(qualityCounts([{ quality: [] }], true), null);
  assert.equal(qualityCounts([{}, { quality: null }], true), null);
  assert.equal(qualitySentence(judged[2]), "Outside the quality gates: more than one cell and out of focus.");
  assert.equal(qualitySentence(judged[0]), null);
  assert.match(composition("r1", cells(3, 0, 0), { composition: null }), /no composition is given/);
});

test("progress says what is done, why it waits, and in the end what is missing", () => {
  const items = ["r/a", "r/b"].map((path) => ({ path, sample: "r" }));
  const run = new Run(MODEL, 2);
  run.begin(items);
  run.waitReason = "You are offline.";
  assert.equal(progress(run), "0 of 2 images processed … You are offline.");
  run.waitReason = null;
  run.addResponse(items.slice(0, 1), { model: { version: "1" }, cells: [] });
  assert.equal(progress(run), "1 of 2 images processed …");
  run.addFailure(items.slice(1), new Error("the body has too many bytes"));
  run.finish();
  assert.equal(progress(run), "1 of 2 images processed. 1 image could not be sent: the body has too many bytes.");
  run.controller.abort();
  assert.equal(progress(run), "1 of 2 images processed. Cancelled; the results so far are shown.");
  run.begin(items.slice(1));
  run.addResponse(items.slice(1), { model: { version: "1" }, cells: [] });
  run.finish();
  assert.equal(progress(run), "2 of 2 images processed.");
});

test("the composition names the largest share and every other above half a per cent", () => {
  const shares = {
    astrocyte: share(0.004, 0, 0.1),
    oligodendrocyte: share(0.3, 0.09, 0.52),
    NT3: share(0.696, 0.42, 0.98),
  };
  assert.equal(
    composition("run_1", cells(5, 5, 1), { composition: shares }),
    "run_1: about 70% NT3 (95% interval 42–98%) and 30% oligodendrocyte (9–52%).",
  );
});

test("no composition is given for a sample of mostly unlike cells", () => {
  assert.equal(
    composition("debris", cells(0, 0, 1), { composition: {} }),
    "debris: no composition is given, because 1 of 1 cell is unlike the training cells.",
  );
  assert.equal(
    composition("debris", cells(1, 0, 4), { composition: {} }),
    "debris: no composition is given, because 4 of 5 cells are unlike the training cells.",
  );
});

test("verdicts are counted; unlike cells are said to be left out", () => {
  assert.equal(verdictCounts(cells(2, 1, 0)), "3 cells: 2 sure, 1 unsure, 0 unlike the training cells");
  assert.match(verdictCounts(cells(2, 0, 1)), /1 unlike the training cells \(not counted in the composition\)$/);
  assert.doesNotMatch(verdictCounts(cells(0, 0, 2)), /not counted/);
  const coarse = ["glia", "neuron", "glia"].map((label) => ({ verdict: "unsure", coarse: { label } }));
  const sure = { verdict: "sure", coarse: { label: "glia" } };
  assert.match(verdictCounts([...coarse, ...cells(0, 1, 0), sure]), /4 unsure \(2 of them glia, 1 of them neuron\), 0/);
});

test("the verdict on a cell is explained", () => {
  assert.match(verdictSentence({ verdict: "sure", conformal_set: ["NT3"] }), /^Sure/);
  assert.equal(verdictSentence({ verdict: "unsure", conformal_set: ["a", "b"] }), "Unsure: a and b are plausible.");
  assert.match(verdictSentence({ verdict: "unsure", conformal_set: [] }), /no class/);
  const coarse = { label: "neuron", probability: 0.97 };
  assert.equal(
    verdictSentence({ verdict: "unsure", conformal_set: ["NT3", "RA/SHH"], coarse }),
    "Called neuron (97%); its class is unsure: NT3 and RA/SHH are plausible.",
  );
  assert.match(verdictSentence({ verdict: "sure", conformal_set: ["NT3"], coarse }), /^Sure: only this class/);
  assert.match(verdictSentence({ verdict: "unlike_training", conformal_set: [] }), /means little/);
});

test("a difference is given with both values", () => {
  assert.equal(
    differenceLine({ name: "contrast", here: 1503, known: 0.12345 }),
    "contrast: typically 1,500 here, 0.123 in the training images",
  );
});

test("the limits of a report name simulated training cells and differing images", () => {
  const overall = { summary: { differences: [{ name: "contrast" }, { name: "sharpness" }] } };
  const text = limits({ model: MODEL, overall }).join(" ");
  assert.match(text, /research use only/);
  assert.match(text, /simulated cells only/);
  assert.match(text, /contrast, sharpness/);
  assert.equal(limits({ model: { ...MODEL, simulated: false }, overall: null }).length, 2);
});

test("an image that could not be read is named with its zip where there are several", () => {
  const error = { message: "0.tif: the file is empty" };
  assert.equal(unreadableLine({ file: "0.tif", error }), "0.tif: the file is empty");
  assert.equal(unreadableLine({ file: "0.tif", item: { shown: "0.tif" }, error }), "0.tif: the file is empty");
  assert.equal(
    unreadableLine({ file: "0.tif", item: { shown: "day1/0.tif" }, error }),
    "day1/0.tif: the file is empty",
  );
});

test("a model of several channels says which, and cells are counted beside images", () => {
  const two = { ...MODEL, channel: "6", channels: { 1: "brightfield", 6: "darkfield" } };
  assert.match(
    modelScope(two),
    /It expects 8-bit or 12-bit images of about .* px, of each cell in darkfield \(channel 6\) and brightfield \(channel 1\)\./,
  );
  const cell = { sample: "r1", parts: [{}, {}] };
  assert.match(uploadSummary([cell, cell, cell]), /^6 images of 3 cells in 1 sample will be sent/);
});
