import assert from "node:assert/strict";
import { test } from "node:test";

import { Run } from "../../service/page/run.js";
import { composition, qualityCounts, verdictCounts } from "../../service/page/sentences.js";
import { MAX_LINK, pack, parse, shareOf, unpack } from "../../service/page/shared-result.js";

const MODEL = { task: "multiclass", classes: ["A", "B"], backbone: "compact", simulated: true };
const SHARES = { A: { share: 0.123456, low: 0.1, high: 0.2 }, B: { share: 0.876544, low: 0.8, high: 0.9 } };
const DIFFERENCE = {
  name: "focus",
  here: 1.23456,
  known: 2,
  edges: [0, 1, 2],
  here_shares: [0.5, 0.5],
  known_shares: [0, 1],
};

function classified(samples = 2) {
  const run = new Run(MODEL, 4);
  const items = Array.from({ length: samples }, (_, i) => ({ path: `day${i}/a.tif`, sample: `day${i}` }));
  run.begin(items);
  const cells = items.flatMap((item, i) => [
    {
      item,
      file: item.path,
      label: "A",
      verdict: "sure",
      probabilities: { A: 0.9, B: 0.1 },
      quality: i ? ["focus"] : [],
    },
    {
      item,
      file: item.path,
      label: "B",
      verdict: "unsure",
      probabilities: { A: 0.4, B: 0.6 },
      quality: [],
      thumbnail: "secret",
    },
  ]);
  cells.push({ item: items[0], file: "x", error: { code: "empty", message: "x: empty" } });
  run.addResponse(items, { model: { name: "m", version: "3" }, request_id: "r", cells });
  for (const { sample } of items) {
    const its = run.classified.filter((cell) => cell.sample === sample);
    run.samples.set(sample, { cells: its, summary: { composition: SHARES }, excludesOutside: false });
  }
  run.overall = { cells: run.classified, summary: { composition: SHARES, differences: [DIFFERENCE] } };
  run.finish();
  return run;
}

test("a result comes back with the same sentences, and without any cell", async () => {
  const run = classified();
  const packed = await pack(shareOf(run, 1000));
  assert.match(packed, /^[\w-]+$/);
  assert.ok(packed.length < 1000, packed.length);
  const shared = await unpack(packed);
  assert.deepEqual(
    shared.samples.map(({ name }) => name),
    ["day0", "day1"],
  );
  for (const { name, cells, summary, excludesOutside } of shared.samples) {
    const sample = run.samples.get(name);
    assert.equal(composition(name, cells, summary), composition(name, sample.cells, sample.summary));
    assert.equal(verdictCounts(cells), verdictCounts(sample.cells));
    assert.equal(qualityCounts(cells, excludesOutside), qualityCounts(sample.cells, false));
  }
  assert.match(qualityCounts(shared.samples[1].cells, false), /1 of 2 cells outside the quality gates: out of focus 1/);
  assert.deepEqual([shared.at, shared.unreadable, shared.versions], [1000, 1, 1]);
  assert.deepEqual(shared.model, { name: "m", version: "3", task: "multiclass", backbone: "compact", simulated: true });
  assert.deepEqual(shared.differences, [{ ...DIFFERENCE, here: 1.235, edges: [0, 2] }]);
  const text = JSON.stringify(shareOf(run, 1000));
  for (const secret of ["secret", "a.tif", "probabilities"]) assert.ok(!text.includes(secret), secret);
});

test("a sample without a composition, of a model without gates", async () => {
  const run = classified(1);
  for (const cell of run.classified) cell.quality = null;
  run.samples.get("day0").summary = { composition: null };
  run.overall = null;
  const [sample] = (await unpack(await pack(shareOf(run, 0)))).samples;
  assert.equal(sample.summary.composition, null);
  assert.equal(qualityCounts(sample.cells, false), null);
});

test("a result says how many cells have several images, and one of an older page says none", async () => {
  const run = classified();
  run.samples.get("day0").followed = 7;
  const shared = shareOf(run, 0);
  assert.deepEqual(
    (await unpack(await pack(shared))).samples.map(({ followed }) => followed),
    [7, 0],
  );
  for (const sample of shared.samples) delete sample.followed;
  assert.equal(parse(JSON.stringify(shared)).samples[0].followed, 0);
  shared.samples[0].followed = -1;
  assert.throws(() => parse(JSON.stringify(shared)), /not a result of this page/);
});

test("dozens of samples fit into a link, thousands do not", async () => {
  assert.ok((await pack(shareOf(classified(60), 0))).length < MAX_LINK / 2);
  assert.ok((await pack(shareOf(classified(4000), 0))).length > MAX_LINK);
});

test("what is no result, or damaged, or a bomb, is refused", async () => {
  const packed = await pack(shareOf(classified(), 0));
  await assert.rejects(unpack(packed.slice(0, -9)), /missing or changed/);
  await assert.rejects(unpack("!"), /missing or changed/);
  await assert.rejects(unpack(""), /missing or changed/);
  await assert.rejects(unpack("a".repeat(3_000_000)), /too long/);
  await assert.rejects(unpack(await pack("0".repeat(50_000_000))), /missing or changed/);
});

test("nothing in it is trusted", () => {
  const good = shareOf(classified(), 0);
  const tampered = (change) => {
    const copy = structuredClone(good);
    change(copy);
    return () => parse(JSON.stringify(copy));
  };
  assert.ok(tampered(() => {})());
  const wrong = [
    (result) => (result.fatescope_result = 0),
    (result) => (result.classes = "A"),
    (result) => (result.classes[0] = 7),
    (result) => (result.classes[0] = "x".repeat(501)),
    (result) => (result.at = "yesterday"),
    (result) => (result.at = 1e300),
    (result) => (result.samples[0].shares[0][0] = 1.5),
    (result) => (result.samples[0].shares = [[0, 0, 1]]),
    (result) => (result.samples[0].verdicts[0] = -1),
    (result) => (result.samples[0].verdicts[0] = 0.5),
    (result) => (result.samples[0].outside = [1]),
    (result) => (result.samples[0] = null),
    (result) => (result.samples = Array.from({ length: 6000 }, () => result.samples[0])),
    (result) => (result.differences[0].here_shares = []),
    (result) => (result.differences[0].edges = [0, null]),
    (result) => (result.differences[0].name = ""),
    (result) => (result.model = null),
  ];
  for (const change of wrong) assert.throws(tampered(change), /not a result/, String(change));
  assert.throws(
    tampered((result) => (result.fatescope_result = 2)),
    /newer version/,
  );
  for (const text of ["null", "[]", "7", '"a"']) assert.throws(() => parse(text), /not a result/);
});
