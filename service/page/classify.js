// Start, follow, cancel and end a run.

import { showNoCell } from "./detail.js";
import { byId, showProblem, showSections } from "./dom.js";
import { drawResults } from "./results.js";
import { Run } from "./run.js";
import { progress } from "./sentences.js";
import { currentModel, state } from "./state.js";
import { classifyInChunks } from "./upload.js";

/** Send the planned files, or `items` that a run is missing. */
export async function startRun(items = state.plan.items) {
  state.run ??= new Run(currentModel(), items.length);
  const { run } = state;
  run.begin(items);
  showSections("progress", ...(run.cells.length ? ["answer", "cells"] : []));
  byId("cancel").hidden = false;
  byId("retry").hidden = byId("start-over").hidden = true;
  showProgress(run);
  await classifyInChunks(items, run.model, run.controller.signal, handlersOf(run));
  if (run === state.run) finish(run);
}

// Responses that arrive after the user has started over are ignored.
function handlersOf(run) {
  const ifCurrent =
    (handle) =>
    (...values) => {
      if (run === state.run) handle(...values);
    };
  return {
    onResponse: ifCurrent((chunk, response) => {
      run.addResponse(chunk, response);
      showProgress(run);
      drawResults(run);
    }),
    onFailure: ifCurrent((items, error) => {
      run.addFailure(items, error);
      showProgress(run);
    }),
    onWait: ifCurrent((reason) => {
      run.waitReason = reason;
      showProgress(run);
    }),
  };
}

function finish(run) {
  run.finish();
  byId("cancel").hidden = true;
  byId("start-over").hidden = false;
  byId("retry").hidden = !run.missing.length;
  showProgress(run);
  drawResults(run, { now: true });
}

function showProgress(run) {
  byId("bar").value = run.total ? run.processed.size / run.total : 0;
  byId("progress-text").textContent = progress(run);
}

/** Forget the files and the results, and show the start again. */
export function startOver() {
  state.run?.controller.abort();
  state.run = null;
  state.plan = { items: [], rejected: [] };
  byId("files").value = byId("folder").value = "";
  byId("unreadable").open = false;
  showProblem("");
  showNoCell();
  showSections("drop");
}
