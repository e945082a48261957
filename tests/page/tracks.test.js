import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toRegExp } from "../../service/page/filenames.js";
import { shownFrames, summary, trackName, trackSentence } from "../../service/page/track-strips.js";
import { answerTracks, countOnce } from "../../service/page/tracks.js";

const { dataset, model, cells, tracks } = JSON.parse(readFileSync(new URL("tracks.json", import.meta.url), "utf8"));
const { correlation, scale } = model;
const MODEL = {
  ...model,
  regex: toRegExp(dataset.pattern),
  tracks: {
    group: dataset.group,
    label: dataset.label,
    values: Object.keys(dataset.classes),
    track: dataset.track,
    time: dataset.time,
    correlation,
    scale,
  },
};

test("the page answers cells with several images as the service does", () => {
  const answers = answerTracks(cells, MODEL);
  assert.equal(answers.length, tracks.length);
  for (const [i, expected] of tracks.entries()) {
    const { frames, sureSince, ...answer } = answers[i];
    const { frames: expectedFrames, sure_since, ...rest } = expected;
    assert.deepEqual(answer, rest);
    assert.equal(sureSince, sure_since);
    assert.deepEqual(
      frames.map(({ cell, time, counts }) => ({ id: cell.id, time, counts })),
      expectedFrames.map(({ id, time, counts }) => ({ id, time, counts })),
    );
    for (const [at, { probabilities }] of frames.entries()) {
      for (const name of MODEL.classes) {
        assert.ok(
          Math.abs(probabilities[name] - expectedFrames[at].probabilities[name]) < 1e-8,
          `${i}, ${at}, ${name}`,
        );
      }
    }
  }
});

test("the order in which requests end does not matter", () => {
  const labels = (answers) => new Map(answers.map((answer) => [trackName(answer), trackSentence(answer)]));
  const [forward, backward] = [cells, cells.toReversed()].map((its) => labels(answerTracks(its, MODEL)));
  for (const [name, sentence] of forward) assert.equal(backward.get(name), sentence);
});

test("a cell counts once in compositions, by its last image inside the quality gates", () => {
  const judged = cells.map((cell) => ({ ...cell, quality: cell.id === "r-0" ? ["focus"] : [] }));
  const counted = countOnce(judged, MODEL);
  assert.equal(counted.length, cells.length - tracks.reduce((sum, { frames }) => sum + frames.length - 1, 0));
  // Of the first cell, the last image is out of focus: the one before it stands for all three.
  assert.ok(!counted.some(({ id }) => id === "r-0" || id === "r-1"));
  const first = counted.find(({ id }) => id === "r-2");
  assert.deepEqual([first.label, first.verdict, first.quality], ["B", "sure", []]);
  assert.deepEqual(first.probabilities, answerTracks(judged, MODEL)[0].frames.at(-1).probabilities);
  const alone = { ...MODEL, tracks: null };
  assert.equal(countOnce(judged, alone), judged);
});

test("a strip of very many images shows some of them, the first, the last and where the call settles", () => {
  const strip = (length, since) => shownFrames({ frames: Array.from({ length }, () => ({})), since });
  assert.deepEqual(strip(3, 1), [0, 1, 2]);
  assert.equal(strip(60, 1).length, 60);
  const many = strip(100_000, 77);
  assert.equal(many.length, 61);
  assert.deepEqual([many[0], many.includes(77), many.at(-1)], [0, true, 99_999]);
  assert.equal(strip(100_000, 0).length, 60);
});

test("two images of one time are in the order of their names, whatever order they come in", () => {
  const twins = ["x", "b"].map((folder, i) => ({ ...cells[i], file: `${folder}/a_1d1_5_t0_Ch1.ome.tif` }));
  for (const its of [twins, twins.toReversed()]) {
    const [{ frames }] = answerTracks(its, MODEL);
    assert.deepEqual(
      frames.map(({ cell }) => cell.file[0]),
      ["b", "x"],
    );
  }
});

// A model whose names may have any text as the time, and any ending.
const ANY = {
  ...MODEL,
  regex: toRegExp("(?P<medium>[a-z])_(?P<day>\\d+)d(?P<run>\\d*)_(?P<object>\\d+)_t(?P<hour>[^_]+)_"),
};

test("times are the numbers that the service reads", () => {
  const timesOf = (texts) => {
    const images = texts.map((text, i) => ({ ...cells[0], id: `r-${i}`, file: `a_1d1_5_t${text}_Ch1.tif` }));
    return answerTracks(images, ANY).flatMap(({ frames }) => frames.map(({ time }) => time));
  };
  assert.deepEqual(timesOf([" 6 ", "-1.5", "+.5e1", "007."]), [-1.5, 5, 6, 7]);
  assert.deepEqual(timesOf(["early", "nan", "inf", "1e999", "1,5", "0x10", "0b1", "١٢", "Infinity"]), []);
});

test("the objects of a native file are no images of one cell", () => {
  const objects = [0, 1].map((object) => ({ ...cells[object], object, file: "a_1d1_5_t0_all.CIF" }));
  assert.equal(answerTracks(objects, ANY).length, 0);
  assert.equal(
    answerTracks(
      objects.map((cell) => ({ ...cell, file: "a_1d1_5_t0_all.tif" })),
      ANY,
    ).length,
    1,
  );
});

test("a model of one image a cell has no tracks", () => {
  assert.deepEqual(answerTracks(cells, { ...MODEL, tracks: null }), []);
});

test("a sentence says what the call is and where it settles", () => {
  const of = (changes) => ({ label: "A", verdict: "sure", frames: [0.4, 0.6, 0.95], ...changes });
  const sentence = ({ frames, ...rest }) =>
    trackSentence({ ...rest, frames: frames.map((value) => ({ probabilities: { A: value } })) });
  assert.equal(
    sentence(of({ since: 1, sureSince: 2 })),
    "A, 95% after 3 images; from image 2 of 3 on, sure from image 3 on",
  );
  assert.equal(sentence(of({ since: 0, sureSince: 0 })), "A, 95% after 3 images; from the first image on, sure");
  assert.equal(
    sentence(of({ since: 1, sureSince: null, verdict: "unsure" })),
    "A, 95% after 3 images; from image 2 of 3 on, unsure",
  );
  assert.equal(sentence(of({ verdict: "unlike_training" })), "all images are unlike the training cells");
  assert.equal(
    summary([{ verdict: "sure" }, { verdict: "unsure" }]),
    "2 cells with several images, 1 of them sure after the last one.",
  );
  assert.equal(trackName({ sample: "a_1d1", group: "a_1d1", track: "17" }), "a_1d1, 17");
});
