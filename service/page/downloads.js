// The results as a file: CSV or FCS, written by the service.

import { postJSON } from "./api.js";
import { element, showProblem } from "./dom.js";
import { countVerdicts } from "./samples.js";

const REVOKE_MS = 10_000; // by then the browser has begun to save the file

/** Return the results of a run as one response of /classify_batch, which /export takes. */
export function toBatchResponse(run) {
  const { model, lastResponse, classified } = run;
  const called = Object.fromEntries(model.classes.map((name) => [name, 0]));
  for (const cell of classified) called[cell.label]++;
  return {
    model: lastResponse.model,
    task: model.task,
    request_id: lastResponse.request_id,
    simulated: model.simulated,
    sample: {
      cells: classified.length,
      refused: run.unreadable.length,
      other_channels: 0,
      ...countVerdicts(classified),
      called,
      composition: run.overall?.summary.composition ?? null,
    },
    // Without what the page added, and without pictures and figures, which the file does not hold.
    cells: run.cells.map(({ sample, map, corrected, thumbnail, figures, ...cell }) => cell),
  };
}

/** Save the results of a run as `format`, csv or fcs. */
export async function download(run, format) {
  try {
    const response = await postJSON(`export?format=${format}`, toBatchResponse(run));
    const href = URL.createObjectURL(await response.blob());
    element("a", { href, download: `fatescope-${run.model.task}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), REVOKE_MS);
  } catch (error) {
    showProblem(`The download failed: ${error.message}`);
  }
}
