// Start, follow, cancel and end a run.

import { showNoCell } from "./detail.js";
import { byId, showProblem, showSections } from "./dom.js";
import { offerKept } from "./kept-offer.js";
import { classifyNativesHere, isPrivate } from "./private/switch.js";
import { showQueue } from "./queue.js";
import { drawResults } from "./results.js";
import { Run } from "./run.js";
import { progress } from "./sentences.js";
import { currentModel, state } from "./state.js";
import { classifyNatives } from "./slices.js";
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
  const [signal, handlers] = [run.controller.signal, handlersOf(run)];
  const images = items.filter((item) => !item.native);
  await classifyInChunks(images, run.model, signal, handlers);
  const natives = items.filter((item) => item.native);
  await (isPrivate() ? classifyNativesHere : classifyNatives)(natives, run.model, signal, handlers);
  if (run === state.run) finish(run);
}

// Responses that arrive after the user has started over are ignored.
function handlersOf(run) {
  const ifCurrent =
    (handle) =>
    (...values) => {
      return run === state.run ? handle(...values) : undefined;
    };
  return {
    onResponse: ifCurrent((chunk, response) => {
      run.addResponse(chunk, response);
      showProgress(run);
      drawResults(run);
    }),
    onSlices: ifCurrent((item, response) => {
      const goOn = run.addSlices(item, response);
      showProgress(run);
      drawResults(run);
      return goOn;
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
  if (run.classified.length) showQueue(run);
}

function showProgress(run) {
  byId("bar").value = run.fraction;
  byId("progress-text").textContent = progress(run);
}

/** Forget the files and the results, and show the start again. */
export function startOver() {
  state.run?.controller.abort();
  state.run = null;
  state.plan = { chosen: [], items: [], rejected: [], plateMap: null };
  byId("files").value = byId("folder").value = "";
  byId("unreadable").open = false;
  showProblem("");
  byId("share-box").hidden = true;
  byId("share").setAttribute("aria-expanded", "false");
  byId("queue").hidden = byId("queue-filter").hidden = true;
  byId("by-queue").checked = false;
  showNoCell();
  showSections("drop");
  offerKept();
}
