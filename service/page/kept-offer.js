// Offer the results that are kept in this browser, show them again, and delete them.

import { byId, fillFilter, showProblem, showSections } from "./dom.js";
import { bytes, number, plural } from "./format.js";
import { forgetLabels } from "./kept-labels.js";
import { inTurn, note, stopKeeping } from "./kept.js";
import { isTooOld, unpack } from "./kept-run.js";
import * as store from "./kept-store.js";
import { describeModel } from "./models.js";
import { drawResults } from "./results.js";
import { state } from "./state.js";

/** Offer the results that are kept, where the start of the page is shown. */
export function offerKept() {
  byId("kept-note").hidden = byId("kept-offer").hidden = true;
  return inTurn(async () => {
    const head = await store.readHead().catch(() => null);
    if (!head) return;
    if (isTooOld(head, Date.now())) {
      await store.clear(head.id);
      return;
    }
    byId("kept-summary").textContent = describe(head);
    byId("kept-offer").hidden = false;
  });
}

const when = (ms) => new Date(ms).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });

function describe({ now, count, samples, model, lastResponse, size, processed, total }) {
  const of = samples.length ? ` in ${plural(samples.length, "sample")}` : "";
  const part = processed < total ? ` (${number(processed)} of ${plural(total, "file")} had been answered)` : "";
  return `${when(now)}: ${plural(count, "cell")}${of}${part}, classified by ${model.task}, version ${lastResponse.model.version}. Kept on this computer, in this browser alone (${bytes(size)}).`;
}

async function showKept() {
  try {
    const head = await store.readHead();
    const run = unpack(head, await store.readCells());
    await chooseModel(run.model);
    state.run = run;
    showSections("progress", "answer", "cells");
    byId("cancel").hidden = byId("retry").hidden = true;
    byId("start-over").hidden = false;
    byId("bar").value = 1;
    byId("progress-text").textContent =
      `Results of ${when(head.now)}, kept on this computer: ${number(head.processed)} of ${plural(head.total, "file")} had been answered.`;
    drawResults(run, { now: true });
  } catch {
    await store.clear().catch(() => {});
    byId("kept-offer").hidden = true;
    showProblem("The results that were kept cannot be read any more, and have been deleted. Classify the cells again.");
  }
}

// The filters and the examples are those of the model that classified the cells, where the service still has it.
async function chooseModel({ task, classes }) {
  if (state.models.some((model) => model.task === task)) {
    byId("task").value = task;
    await describeModel();
  }
  fillFilter(byId("by-class"), classes);
}

async function deleteKept() {
  forgetLabels();
  await inTurn(() => store.clear().catch(() => {}));
  stopKeeping();
  byId("kept-offer").hidden = true;
  if (state.run) note("Deleted from this computer. What you see is gone when you close or reload this page.", false);
  else byId("pick-files").focus();
}

/** Connect the buttons, and offer what is kept. */
export function initKept() {
  byId("show-kept").addEventListener("click", showKept);
  for (const id of ["forget-kept", "delete-kept"]) byId(id).addEventListener("click", deleteKept);
  return offerKept();
}
