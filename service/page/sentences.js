// Sentences that the page shows, made of numbers and names.

import { interval, list, number, percent, plural, round } from "./format.js";
import { countVerdicts, groupBy, isMostlyUnlike } from "./samples.js";

const WORTH_NAMING = 0.005; // smallest share that the sentence of a sample names, beside the largest

/** Say which classes a model distinguishes and which images it expects. */
export function modelScope({ classes, channel, bit_depths: depths, height_px: height, width_px: width }) {
  const ofChannel = channel ? ` (channel ${channel})` : "";
  const bits = list(
    depths.map((depth) => `${depth}-bit`),
    "or",
  );
  const size = `${width[0]}–${width[1]} × ${height[0]}–${height[1]} px`;
  return `This model distinguishes ${list(classes)}. It expects ${bits} brightfield images${ofChannel} of about ${size}.`;
}

/** Say what will be sent. */
export function uploadSummary(items) {
  if (!items.length) return "None of these files is an image that the model can read.";
  const samples = new Set(items.map((item) => item.sample)).size;
  return `${plural(items.length, "image")} in ${plural(samples, "sample")} will be sent to this service and classified.`;
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
  const done = `${number(run.processed.size)} of ${plural(run.total, "image")}`;
  if (!run.finished) return `${done} processed … ${run.waitReason ?? ""}`.trimEnd();
  if (run.cancelled) return `${done} processed. Cancelled; the results so far are shown.`;
  if (!run.missing.length) return `${done} processed.`;
  return `${done} processed. ${plural(run.missing.length, "image")} could not be sent: ${run.failure}.`;
}

/** Describe the composition of a sample. */
export function composition(name, cells, summary) {
  if (isMostlyUnlike(cells)) {
    const unlike = number(countVerdicts(cells).unlike_training);
    return `${name}: no composition is given, because ${unlike} of ${plural(cells.length, "cell")} are unlike the training cells.`;
  }
  const shares = Object.entries(summary.composition)
    .sort(([, a], [, b]) => b.share - a.share)
    .filter(([, { share }], i) => i === 0 || share >= WORTH_NAMING)
    .map(([label, { share, low, high }], i) => {
      const range = i === 0 ? `95% interval ${interval(low, high)}` : interval(low, high);
      return `${percent(share)} ${label} (${range})`;
    });
  return `${name}: about ${list(shares)}.`;
}

/** Count the cells of a sample by verdict. */
export function verdictCounts(cells) {
  const { sure, unsure, unlike_training: unlike } = countVerdicts(cells);
  const counts = `${plural(cells.length, "cell")}: ${number(sure)} sure, ${number(unsure)} unsure, ${number(unlike)} unlike the training cells`;
  return unlike && !isMostlyUnlike(cells) ? `${counts} (not counted in the composition)` : counts;
}

/** Explain the verdict on a cell. */
export function verdictSentence({ verdict, conformal_set: classes }) {
  if (verdict === "sure") return "Sure: only this class is plausible.";
  if (verdict === "unsure")
    return classes.length ? `Unsure: ${list(classes)} are plausible.` : "Unsure: no class is plausible.";
  return "Unlike the training cells: the predicted class means little.";
}

/** Return the path of the file of a cell, with the name of its zip where there are several. */
export const shownPath = ({ item, file }) => item?.shown ?? file;

/** Say why an image could not be read, with the name of its zip where there are several. */
export function unreadableLine(cell) {
  const { message } = cell.error;
  return message.startsWith(cell.file) ? shownPath(cell) + message.slice(cell.file.length) : message;
}

/** Say in what the images of this upload differ from those that the model was trained on. */
export const differenceLine = ({ name, here, known }) =>
  `${name}: typically ${round(here)} here, ${round(known)} in the training images`;
