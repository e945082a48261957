// The results as a file: CSV or FCS, written by the service.

import { postJSON } from "./api.js";
import { element, showProblem } from "./dom.js";
import { countOutside } from "./quality.js";
import { countVerdicts } from "./samples.js";

const REVOKE_MS = 10_000; // by then the browser has begun to save the file

/** Return the results of a run as one response of /classify_batch, which /export takes. */
export function toBatchResponse(run) {
  const { model, lastResponse, classified } = run;
  return {
    model: lastResponse.model,
    task: model.task,
    request_id: lastResponse.request_id,
    simulated: model.simulated,
    hierarchy: model.hierarchy ?? {},
    outside_excluded: run.excludesOutside,
    sample: {
      ...countCells(classified, run.unreadable, model),
      other_channels: 0,
      composition: run.overall?.summary.composition ?? null,
    },
    samples: [...run.samples].map(([sample, { cells, summary }]) => ({
      sample,
      ...countCells(
        cells,
        run.unreadable.filter((cell) => cell.sample === sample),
        model,
      ),
      composition: summary.composition,
      ...rolesOf(run, sample),
    })),
    // Without what the page added, but its samples, and without pictures and figures, which the file does not hold.
    cells: run.cells.map(
      ({ item, upload, map, corrected, queued, thumbnail, image_hash, figures, place, ...cell }) => cell,
    ),
  };
}

// As the comparison uses them, if there is one.
function rolesOf({ comparison }, name) {
  const compared = comparison?.body.samples.find(({ sample }) => sample === name);
  if (!compared) return {};
  const { condition, replicate, day, dose, donor } = compared;
  return { roles: { condition, replicate, day, dose, donor } };
}

/** Return the counts of classified and unreadable cells, as the answers of the service have them. */
export function countCells(classified, unreadable, { classes }) {
  const called = Object.fromEntries(classes.map((name) => [name, 0]));
  for (const cell of classified) called[cell.label]++;
  return {
    cells: classified.length,
    refused: unreadable.length,
    ...countVerdicts(classified),
    ...countOutside(classified),
    called,
  };
}

/** Save a blob as a file. */
export function saveFile(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), REVOKE_MS);
}

/** Save the results of a run as `format`, csv or fcs. */
export async function download(run, format) {
  try {
    const response = await postJSON(`export?format=${format}`, toBatchResponse(run));
    // FCS of several samples is a zip.
    const [, name] = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "") ?? [];
    saveFile(await response.blob(), name ?? `fatescope-${run.model.task}.${format}`);
  } catch (error) {
    showProblem(`The download failed: ${error.message}`);
  }
}
