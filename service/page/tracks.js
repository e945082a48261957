// Cells of which a run has several images over time: which are of one cell, by their names, and the answer by all of them.
// The service answers in the same way, fatescope/inference/track_evidence.py; tests/page/tracks.json holds both to that.

import { readGroups } from "./names.js";
import { isOutside } from "./quality.js";

const FLOOR = 1e-6; // smallest probability of a class that one image may give
const UNLIKE = "unlike_training";
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i; // a time, as fatescope/data/tracks.py reads it
const NATIVE = /\.[cr]if$/i; // a file of many cells, each of which the instrument saw once

/**
 * Return [{ sample, group, track, label, verdict, since, sureSince, frames: [{ cell, time, counts, probabilities }] }] of
 * classified cells with several images, by a model as /models describes it; none of a model of one image a cell.
 */
export function answerTracks(cells, model) {
  if (!model.tracks) return [];
  const images = new Map(); // by sample, group and track
  for (const cell of cells) {
    const frame = readFrame(cell.item?.path ?? cell.file, model);
    if (!frame) continue;
    const key = JSON.stringify([cell.sample, frame.group, frame.track]);
    if (!images.has(key)) images.set(key, []);
    images.get(key).push({ ...frame, cell });
  }
  return [...images.values()].filter((frames) => frames.length > 1).map((frames) => answer(frames, model));
}

/**
 * Return cells with one in place of all images of a cell: its last image inside the quality gates, with the answer by all.
 * Compositions count cells, as those of the service do. `tracks` are the answers of these cells, where they are known.
 */
export function countOnce(cells, model, tracks = answerTracks(cells, model)) {
  const inPlace = new Map(); // image → what counts in its place, null for none
  for (const { label, verdict, frames } of tracks) {
    const kept = (frames.findLast(({ cell }) => !isOutside(cell)) ?? frames.at(-1)).cell;
    for (const { cell } of frames) inPlace.set(cell, null);
    inPlace.set(kept, { ...kept, label, verdict, probabilities: frames.at(-1).probabilities });
  }
  if (!inPlace.size) return cells;
  return cells.map((cell) => (inPlace.has(cell) ? inPlace.get(cell) : cell)).filter(Boolean);
}

function readFrame(path, { tracks, regex }) {
  if (NATIVE.test(path)) return null;
  const groups = readGroups(path, regex);
  const track = groups?.[tracks.track];
  const text = groups?.[tracks.time]?.trim();
  const time = NUMBER.test(text ?? "") ? Number(text) : NaN;
  if (!track || !Number.isFinite(time)) return null;
  const read = { ...groups, [tracks.label]: usualSpelling(groups[tracks.label] ?? "", tracks.values) };
  return { group: tracks.group.map((name) => read[name] ?? "").join("_"), track, time };
}

// Values that differ in case only stay apart. A run that an older page has kept says none.
function usualSpelling(value, values = []) {
  const alike = values.filter((usual) => usual.toLowerCase() === value.toLowerCase());
  return values.includes(value) || alike.length !== 1 ? value : alike[0];
}

function answer(images, model) {
  const { classes, prior, coverage } = model;
  // Requests end in any order; two images of one time are in that of their names.
  const inTime = images.toSorted((a, b) => a.time - b.time || byName(a.cell.file, b.cell.file));
  const total = classes.map(() => 0);
  let counted = 0;
  const frames = inTime.map(({ cell, time }) => {
    const counts = cell.verdict !== UNLIKE;
    if (counts) {
      counted++;
      for (const [k, name] of classes.entries()) {
        total[k] += Math.log(Math.max(cell.probabilities[name], FLOOR)) - Math.log(prior[k]);
      }
    }
    const weight = model.tracks.scale / (1 + (Math.max(counted, 1) - 1) * model.tracks.correlation);
    return { cell, time, counts, probabilities: posterior(total, weight, prior, classes) };
  });
  const best = frames.map(({ probabilities }) => mostProbable(probabilities, classes));
  const label = best.at(-1);
  const since = staysFrom(best.map((name) => name === label));
  const sureSince = staysFrom(frames.map((frame, i) => best[i] === label && frame.probabilities[label] >= coverage));
  const verdict = counted === 0 ? UNLIKE : sureSince === null ? "unsure" : "sure";
  const [{ cell, group, track }] = images;
  return { sample: cell.sample, group, track, label, verdict, since, sureSince, frames };
}

function posterior(total, weight, prior, classes) {
  const logits = total.map((sum, k) => sum * weight + Math.log(prior[k]));
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return Object.fromEntries(classes.map((name, k) => [name, powers[k] / sum]));
}

const byName = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

const mostProbable = (probabilities, classes) =>
  classes.reduce((best, name) => (probabilities[name] > probabilities[best] ? name : best));

// The first from which on it holds to the last; null where it does not hold at the last.
function staysFrom(holds) {
  const failed = holds.lastIndexOf(false);
  return failed === holds.length - 1 ? null : failed + 1;
}
