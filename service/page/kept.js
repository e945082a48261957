// Keep the results of a run in this browser while they come in, so that they survive a reload.

import { byId } from "./dom.js";
import { bytes, plural } from "./format.js";
import { MAX_BYTES, MAX_BYTES_WITH_PICTURES, MAX_DAYS, packCells, packHead } from "./kept-run.js";
import * as store from "./kept-store.js";
import { state } from "./state.js";

const LOSS = "They are gone when you close or reload this page: download them before.";
const REFUSED = `This browser does not let the page keep results, as in a private window. ${LOSS}`;
const FULL = `These results are not kept: the browser has no room for them. ${LOSS}`;
const TOO_LARGE = `These results are not kept: they take more than ${bytes(MAX_BYTES)}. ${LOSS}`;
const REPLACED = `These results are not kept: another tab has kept or deleted results since. ${LOSS}`;

const PART = 2_000; // cells that are written at a time, so that the page stays responsive

let current = null; // { run, id, count, size, pictures, stopped } of the run that is being kept
let last = Promise.resolve();

/** Run `act` after what was given before it has ended. */
export const inTurn = (act) => (last = last.then(act, act));

/** Keep what has come of a run since the last call. */
export function keepRun(run) {
  return inTurn(async () => {
    if (run !== state.run || !run.classified.length) return;
    if (current?.run !== run) current = begin(run);
    if (current.stopped) return;
    try {
      await keep(current);
    } catch (error) {
      await stop(current, error?.name === "QuotaExceededError" ? FULL : REFUSED);
    }
  });
}

const begin = (run) =>
  run.kept
    ? { run, ...run.kept }
    : { run, id: crypto.getRandomValues(new Uint32Array(2)).join("-"), count: 0, size: 0, pictures: 0 };

async function keep(kept) {
  const { run } = kept;
  // The first part also where nothing is new, for the summaries.
  do await keepPart(kept);
  while (!kept.stopped && kept.count < run.cells.length && run === state.run);
  // Not with each answer: a screen reader says it.
  if (kept.stopped || !run.finished || kept.count < run.cells.length) return;
  const isCut = kept.pictures < run.cells.filter((cell) => cell.thumbnail).length;
  const ofFirst = isCut ? ` Pictures are kept of the first ${plural(kept.pictures, "cell")}.` : "";
  const used = `${bytes(kept.size)} of at most ${bytes(MAX_BYTES)}`;
  note(
    `These results are kept on this computer, in this browser alone, for ${MAX_DAYS} days or until other cells are classified (${used}). The image files are not kept.${ofFirst}`,
    true,
  );
}

async function keepPart(kept) {
  const { run, id } = kept;
  const isFirst = kept.count === 0;
  const room = Math.max(0, MAX_BYTES_WITH_PICTURES - kept.size);
  const { cells, size } = packCells(run, kept.count, room, PART);
  kept.count += cells.length;
  kept.size += size;
  kept.pictures += cells.filter((cell) => cell.thumbnail).length;
  if (kept.size > MAX_BYTES) {
    await stop(kept, TOO_LARGE);
    return;
  }
  const { count, pictures } = kept;
  const head = packHead(run, { id, count, size: kept.size, pictures, now: run.kept?.now ?? Date.now() });
  if (isFirst) await store.replace(head, cells);
  else if (!(await store.append(head, cells))) await stop(kept, REPLACED);
}

/** Keep no more of the run that is being kept. */
export function stopKeeping() {
  if (current) current.stopped = true;
}

async function stop(kept, reason) {
  kept.stopped = true;
  // Half a run is worse than none.
  await store.clear(kept.id).catch(() => {});
  note(reason, false);
}

/** Say below the results what is kept of them, and whether there is anything to delete. */
export function note(text, deletable) {
  // A screen reader says again what is written again.
  if (byId("kept-text").textContent !== text) byId("kept-text").textContent = text;
  byId("delete-kept").hidden = !deletable;
  byId("kept-note").hidden = false;
}
