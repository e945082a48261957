// A run as it is kept in the browser: { head, cells } of plain values, and the run that they make again.

import { toRegExp } from "./filenames.js";
import { plural } from "./format.js";
import { Run } from "./run.js";

/** Most bytes of a run that are kept; of one with more, nothing. */
export const MAX_BYTES = 150e6;
/** How many bytes are filled with pictures; cells after that are kept without theirs. */
export const MAX_BYTES_WITH_PICTURES = 90e6;
const DAY_MS = 24 * 3600e3;
/** How long a run is kept: whoever sits at this computer then is told nothing of it. */
export const MAX_DAYS = 30;

const NUMBER_BYTES = 20; // as text, about

/** Return the { cells, size } that are kept of the `count` cells from `start` on; those beyond `bytes` without pictures. */
export function packCells(run, start, bytes, count = Infinity) {
  const cells = [];
  let size = 0;
  for (const { item, upload, map, queued, ...cell } of run.cells.slice(start, start + count)) {
    const pictures = (cell.thumbnail?.length ?? 0) + lengths(cell.thumbnails);
    if (size + pictures > bytes) cell.thumbnail = cell.thumbnails = undefined;
    const kept = { ...cell, ...place(item) };
    size += estimate(kept);
    cells.push(kept);
  }
  return { cells, size };
}

// The file of a cell is not kept, but how it is called is.
const place = (item) => (item ? { kept: { path: item.path, shown: item.shown, native: Boolean(item.native) } } : {});

const lengths = (texts) => Object.values(texts ?? {}).reduce((sum, text) => sum + text.length, 0);

// To write a cell as text in order to measure it would take longer than to keep it.
function estimate({ thumbnail, thumbnails, figures, probabilities, file, warnings }) {
  const numbers = (figures?.length ?? 0) + 2 * Object.keys(probabilities ?? {}).length;
  const pictures = (thumbnail?.length ?? 0) + lengths(thumbnails);
  return pictures + numbers * NUMBER_BYTES + 2 * file.length + 200 * (1 + (warnings?.length ?? 0));
}

/** Return what is kept of a run beside its cells, of which there are `count`, `pictures` with one; `now` is in ms. */
export function packHead(run, { id, count, size, pictures, now }) {
  // A regular expression is made again of the pattern.
  const { regex, ...model } = run.model;
  const { model: answered, request_id } = run.lastResponse;
  return {
    id,
    now,
    count,
    size,
    pictures,
    model,
    lastResponse: { model: answered, request_id },
    versions: [...run.versions],
    total: run.total,
    processed: run.processed.size,
    excludesOutside: run.excludesOutside,
    samples: [...run.samples].map(([name, sample]) => [name, packSummary(sample)]),
    overall: run.overall && packSummary(run.overall),
    // What a person has corrected by hand is not in the names of the samples.
    comparison: run.roles && {
      roles: [...run.roles],
      plateMap: run.plateMap ?? null,
      reference: run.reference ?? null,
    },
  };
}

const packSummary = ({ cells, summary, excludesOutside, followed }) => ({
  count: cells.length,
  summary,
  excludesOutside,
  followed,
});

/** Return whether a run has been kept for too long. */
export const isTooOld = (head, now) => now - head.now > MAX_DAYS * DAY_MS || head.now > now + DAY_MS;

/** Return the run of a head and its cells; throws where they do not belong together. */
export function unpack(head, cells) {
  if (cells.length !== head.count) throw new Error(`${cells.length} of ${plural(head.count, "cell")}`);
  const run = new Run({ ...head.model, regex: toRegExp(head.model.pattern) }, head.total);
  run.begin([]);
  run.lastResponse = head.lastResponse;
  run.excludesOutside = head.excludesOutside;
  run.finished = true;
  run.kept = head;
  for (const version of head.versions) run.versions.add(version);
  const items = new Map();
  for (const { kept, ...cell } of cells) {
    if (kept) {
      const key = JSON.stringify([kept.shown ?? kept.path, cell.sample]);
      if (!items.has(key)) items.set(key, { ...kept, sample: cell.sample, gone: true });
      cell.item = items.get(key);
    }
    run.cells.push(cell);
  }
  for (const item of items.values()) run.processed.add(item);
  const { classified } = run;
  const unpackSummary = ({ count, ...rest }, its) => (its.length === count ? { ...rest, cells: its } : null);
  for (const [name, sample] of head.samples) {
    const its = classified.filter((cell) => cell.sample === name);
    const summary = unpackSummary(sample, its);
    // What was kept while answers came in is summarised again.
    if (summary) run.samples.set(name, summary);
  }
  run.overall = head.overall && unpackSummary(head.overall, classified);
  // Runs that an earlier page kept have none.
  if (head.comparison) {
    const { roles, plateMap, reference } = head.comparison;
    Object.assign(run, { roles: new Map(roles), plateMap, reference });
  }
  return run;
}
