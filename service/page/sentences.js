// Sentences that the page shows, made of numbers and names.

import { channelsOf } from "./filenames.js";
import { partsOf } from "./files.js";
import { agree, bytes, interval, list, number, percent, plural, round } from "./format.js";
import { REASONS, countOutside, isOutside } from "./quality.js";
import { MAX_CELLS } from "./run.js";
import { countCoarse, countVerdicts, groupBy, isMostlyUnlike } from "./samples.js";

const WORTH_NAMING = 0.005; // smallest share that the sentence of a sample names, beside the largest

/** Say which classes a model distinguishes and which images it expects. */
export function modelScope(model) {
  const { classes, channel, bit_depths: depths, height_px: height, width_px: width } = model;
  const ofChannel = channel ? ` (channel ${channel})` : "";
  const bits = list(
    depths.map((depth) => `${depth}-bit`),
    "or",
  );
  const size = `${width[0]}–${width[1]} × ${height[0]}–${height[1]} px`;
  const distinguishes = `This model distinguishes ${list(classes)}.`;
  const channels = channelsOf(model);
  if (channels.length > 1) {
    const each = list(channels.map((name) => `${model.channels[name]} (channel ${name})`));
    return `${distinguishes} It expects ${bits} images of about ${size}, of each cell in ${each}.`;
  }
  const kind = model.channels?.[channel] ?? "brightfield";
  return `${distinguishes} It expects ${bits} ${kind} images${ofChannel} of about ${size}.`;
}

/** Say what will be sent, or with `here` classified in the browser. */
export function uploadSummary(items, here = false) {
  if (!items.length) return "None of these files is an image that the model can read.";
  const samples = new Set(items.map((item) => item.sample)).size;
  const natives = items.filter((item) => item.native);
  const others = items.filter((item) => !item.native);
  const images = others.reduce((sum, item) => sum + partsOf(item).length, 0);
  const ofCells = images > others.length ? ` of ${plural(others.length, "cell")}` : "";
  const size = bytes(natives.reduce((sum, item) => sum + item.size, 0));
  const what = [
    natives.length ? `${plural(natives.length, "native file")} (${size})` : "",
    images ? `${plural(images, "image")}${ofCells}` : "",
  ].filter(Boolean);
  const become = here
    ? "will be classified in this browser, and not be sent"
    : "will be sent to this service and classified";
  return `${list(what)} in ${plural(samples, "sample")} ${become}.`;
}

/** Return one line for every reason why files are not sent. */
export function rejectionLines(rejected) {
  return [...groupBy(rejected, (file) => file.reason)].map(([reason, files]) =>
    files.length === 1
      ? `${files[0].path}: ${reason}.`
      : `${plural(files.length, "file")}, for example ${files[0].path}: ${reason}.`,
  );
}

/** Say how far a run is, and in the end what is missing. */
export function progress(run) {
  const files = [...run.files];
  const noun = files.some((item) => item.native) ? "file" : files.some((item) => item.parts) ? "cell" : "image";
  const done = `${number(run.processed.size)} of ${plural(run.total, noun)}`;
  const wait = run.waitReason ?? "";
  if (!run.finished) return [`${done} processed …`, ...objectLines(run), wait].filter(Boolean).join(" ");
  if (run.cancelled) return `${done} processed. Cancelled; the results so far are shown.`;
  if (!run.missing.length) return [`${done} processed.`, ...cutLines(run)].join(" ");
  return `${done} processed. ${plural(run.missing.length, noun)} could not be sent: ${run.failure}.`;
}

/** Say how far the native file is that is being sent. */
const objectLines = (run) =>
  [...run.objects]
    .filter(([item]) => !run.processed.has(item))
    .map(([item, { answered, announced }]) => {
      const of = announced ? `of ${plural(announced, "object")}` : "objects";
      return `${item.path}: ${number(answered)} ${of}.`;
    });

/** Say of which native files not all objects were classified. */
export const cutLines = (run) =>
  [...(run.objects ?? [])]
    .filter(([, { cut }]) => cut)
    .map(([item, { answered, announced }]) => {
      const objects = announced ? `${number(answered)} of ${plural(announced, "object")}` : plural(answered, "object");
      return `${item.path}: only the first ${objects}, because the page holds ${number(MAX_CELLS)} cells; fatescope score does the whole file.`;
    });

/** Say how many of the cells are unlike the training cells. */
export function unlikeOf(cells) {
  const { unlike_training: unlike } = countVerdicts(cells);
  return `${number(unlike)} of ${plural(cells.length, "cell")} ${agree(unlike, "is", "are")} unlike the training cells`;
}

/** Describe the composition of a sample. */
export function composition(name, cells, summary) {
  if (isMostlyUnlike(cells)) {
    return `${name}: no composition is given, because ${unlikeOf(cells)}.`;
  }
  if (!summary.composition) return `${name}: no composition is given, because no cell is left that counts in it.`;
  const shares = Object.entries(summary.composition)
    .sort(([, a], [, b]) => b.share - a.share)
    .filter(([, { share }], i) => i === 0 || share >= WORTH_NAMING)
    .map(([label, { share, low, high }], i) => {
      const range = i === 0 ? `95% interval ${interval(low, high)}` : interval(low, high);
      return `${percent(share)} ${label} (${range})`;
    });
  return `${name}: about ${list(shares)}.`;
}

/** Say what the counts of a sample count where so many of its cells have several images. */
export const followedCells = (count) =>
  `${plural(count, "cell has", "cells have")} several images: ${agree(count, "it", "each")} counts once in the composition, and with every image in these numbers`;

/** Count the cells of a sample by verdict. */
export function verdictCounts(cells) {
  const { sure, unsure, unlike_training: unlike } = countVerdicts(cells);
  const coarse = [...countCoarse(cells)].map(([label, count]) => `${number(count)} of them ${label}`).join(", ");
  const doubtful = `${number(unsure)} unsure${coarse && ` (${coarse})`}`;
  const counts = `${plural(cells.length, "cell")}: ${number(sure)} sure, ${doubtful}, ${number(unlike)} unlike the training cells`;
  return unlike && !isMostlyUnlike(cells) ? `${counts} (not counted in the composition)` : counts;
}

/** Count the cells of a sample outside the quality gates, by reason; null where there are none, or no gates. */
export function qualityCounts(cells, excludesOutside) {
  const { outside, outside_reasons: reasons } = countOutside(cells);
  if (!outside) return null;
  const named = Object.entries(reasons).filter(([, count]) => count);
  const counts = named.map(([reason, count]) => `${REASONS[reason]} ${number(count)}`).join(", ");
  const fate = excludesOutside ? "not counted in the composition" : "counted in the composition";
  return `${number(outside)} of ${plural(cells.length, "cell")} outside the quality gates: ${counts} (${fate})`;
}

/** Say why a cell is outside the quality gates; null where it is not. */
export const qualitySentence = (cell) =>
  isOutside(cell) ? `Outside the quality gates: ${list(cell.quality.map((reason) => REASONS[reason]))}.` : null;

/** Explain the verdict on a cell. */
export function verdictSentence({ verdict, conformal_set: classes, coarse }) {
  if (verdict === "sure") return "Sure: only this class is plausible.";
  if (verdict === "unsure" && coarse)
    return `Called ${coarse.label} (${percent(coarse.probability)}); its class is unsure: ${list(classes)} are plausible.`;
  if (verdict === "unsure")
    return classes.length ? `Unsure: ${list(classes)} are plausible.` : "Unsure: no class is plausible.";
  return "Unlike the training cells: the predicted class means little.";
}

/** Say who wrote the description of a culture. */
export const descriptionSource = ({ source, model, why }) =>
  source === "model"
    ? `Written by the language model ${model} from these figures alone; each number in it was checked.`
    : `Written from a template: ${why}.`;

/** Return the path of the file of a cell, with the name of its zip where there are several. */
export const shownPath = ({ item, file }) => item?.shown ?? file;

/** Say that there is no composition, because none of `count` images could be read. */
export const noneReadable = (count) =>
  count === 1
    ? "This image could not be read, so that there is no composition. The reason is below."
    : `None of these ${number(count)} images could be read, so that there is no composition. The reasons are below.`;

/** Say why an image could not be read, with the name of its zip where there are several. */
export function unreadableLine(cell) {
  const { message } = cell.error;
  return message.startsWith(cell.file) ? shownPath(cell) + message.slice(cell.file.length) : message;
}

/** Say in what the images of this upload differ from those that the model was trained on. */
export const differenceLine = ({ name, here, known }) =>
  `${name}: typically ${round(here)} here, ${round(known)} in the training images`;

/** Say how many cells wait for a label, and how many of them are `here`, in this run. */
export function queueSentence({ drawn, labelled, cells, disputed = [] }, here) {
  const why = "Their labels tell how often the model is right now.";
  if (!drawn) return `No cells wait for a label. Draw some at random, and say what each of them is. ${why}`;
  const doubt = disputed.length
    ? ` Of ${number(disputed.length)} people say different things: what was said first counts until an operator decides.`
    : "";
  if (!cells.length) {
    const all = agree(drawn, "The drawn cell has", `All ${number(drawn)} drawn cells have`);
    return `${all} a label. Draw more when new cells have come.${doubt}`;
  }
  const them = agree(here, "it, also if the model got it right", "them in order, also those that the model got right");
  const found = here
    ? `${plural(here, "of the others is", "of the others are")} among the cells below: label ${them}.`
    : "None of the others is among the cells below: classify the files that they came from.";
  return `${number(labelled)} of ${plural(drawn, "drawn cell")} ${agree(labelled, "has", "have")} a label.${doubt} ${found}`;
}
