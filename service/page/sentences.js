// Sentences that the page shows, made of numbers and names.

import { number, percent, plural, round } from "./format.js";
import { countVerdicts, groupBy, isMostlyUnlike } from "./samples.js";

const WORTH_NAMING = 0.005; // smallest share that the sentence of a sample names, beside the largest

/** Describe what kind of images a model expects. */
export function expectedImages({ channel, bit_depths: depths, height_px: height, width_px: width }) {
  const ofChannel = channel ? ` (channel ${channel})` : "";
  return `The model knows brightfield images${ofChannel} of ${depths.join(" or ")} bit, about ${width[0]}–${width[1]} × ${height[0]}–${height[1]} px.`;
}

/** Describe what will be sent. */
export function uploadSummary(items) {
  if (!items.length) return "There is no image here that the model can read.";
  const samples = new Set(items.map((item) => item.sample)).size;
  return `${plural(items.length, "image")} in ${plural(samples, "sample")} will be sent to this service and classified.`;
}

/** Return one line for every reason why files are not sent. */
export function rejectionLines(rejected) {
  return [...groupBy(rejected, (file) => file.reason)].map(
    ([reason, files]) => `${plural(files.length, "file")}, such as ${files[0].path}: ${reason}.`,
  );
}

/** Describe how far a run has come. */
export function progress(run) {
  const done = number(run.processed.size);
  const images = plural(run.total, "image");
  if (!run.finished) return `Classified ${done} of ${images} … ${run.waitReason ?? ""}`.trimEnd();
  const missing = run.missing.length ? ` ${plural(run.missing.length, "image")} could not be sent.` : "";
  return `${done} of ${images} answered.${missing} ${run.closingNote}`.trimEnd();
}

/** Describe the composition of a sample. */
export function composition(name, cells, summary) {
  const { unsure, unlike_training: unlike } = countVerdicts(cells);
  if (isMostlyUnlike(cells)) {
    return `${name} cannot be told: ${number(unlike)} of its ${plural(cells.length, "cell")} look like nothing that the model was trained on.`;
  }
  const shares = Object.entries(summary.composition)
    .sort(([, a], [, b]) => b.share - a.share)
    .filter(([, { share }], i) => i === 0 || share >= WORTH_NAMING)
    .map(
      ([label, { share, low, high }]) =>
        `${percent(share)} ${label} (95\u00a0% interval ${Math.round(low * 100)}\u00a0to\u00a0${percent(high)})`,
    );
  const doubts = `of its ${plural(cells.length, "cell")}, ${number(unsure)} could not be told apart with certainty and ${number(unlike)} ${unlike === 1 ? "is" : "are"} unlike anything the model was trained on`;
  return `${name} is made of about ${shares.join(", ")}; ${doubts}.`;
}

/** Count the cells of a sample by verdict. */
export function verdictCounts(cells) {
  const { sure, unsure, unlike_training: unlike } = countVerdicts(cells);
  return `${plural(cells.length, "cell")}: ${sure} sure, ${unsure} not sure, ${unlike} unlike the training cells`;
}

/** Describe in what the images of this upload differ from the training images. */
export function differences(worst) {
  const named = worst.map(
    ({ name, here, known }) => `${name} (here about ${round(here)}, known about ${round(known)})`,
  );
  return `The ${named.join("; the ")}. Another lamp, gain, focus or crop can do that. The answer below may be wrong; compare with a sample that you know.`;
}
