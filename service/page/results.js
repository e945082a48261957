// The composition of every sample, the warnings above it and the list of images that could not be read.

import { forTask, postJSON } from "./api.js";
import { showCells } from "./cells.js";
import { compositionChart } from "./charts.js";
import { byId, element, fillFilter, showProblem, showSections } from "./dom.js";
import { number, plural } from "./format.js";
import { groupBy, isMostlyUnlike } from "./samples.js";
import { composition, unreadableLine, verdictCounts } from "./sentences.js";
import { state } from "./state.js";
import { warningBanners } from "./warnings.js";

const DELAY_MS = 800; // responses of that time are drawn together
const MAX_LISTED = 500; // images that could not be read

let timer = 0;
let lastDrawing = Promise.resolve();
let drawnRun = null;

/** Draw the results of a run: the first ones and, with `now`, the last ones at once, others after a short delay. */
export function drawResults(run, { now = false } = {}) {
  clearTimeout(timer);
  // One after the other, because each waits for the service.
  const draw = () => (lastDrawing = lastDrawing.then(() => drawRun(run)));
  timer = setTimeout(draw, now || run !== drawnRun ? 0 : DELAY_MS);
  drawnRun = run;
}

async function drawRun(run) {
  if (run !== state.run) return;
  try {
    await summariseSamples(run);
  } catch (error) {
    showProblem(`The composition could not be computed: ${error.message}`);
  }
  if (run !== state.run) return;
  showSections("progress", ...(run.cells.length ? ["answer", "cells"] : []));
  drawSamples(run);
  byId("warnings").replaceChildren(...warningBanners(run, state.examples));
  drawUnreadable(run);
  const names = [...run.samples.keys()].sort();
  fillFilter(byId("by-sample"), names);
  byId("sample-filter").hidden = names.length < 2;
  showCells(run);
}

async function summariseSamples(run) {
  const cells = run.classified;
  const bySample = groupBy(cells, (cell) => cell.sample);
  for (const [name, its] of bySample) {
    if (run.samples.get(name)?.cells.length === its.length) continue;
    run.samples.set(name, { cells: its, summary: await summarise(run.model, its) });
  }
  const [only] = run.samples.values();
  run.overall = bySample.size > 1 ? { cells, summary: await summarise(run.model, cells) } : only;
}

async function summarise({ task, classes }, cells) {
  const body = cells.map(({ probabilities, verdict, figures }) => ({
    probabilities: classes.map((name) => probabilities[name]),
    verdict,
    figures,
  }));
  return (await postJSON(forTask("summarise", task), { cells: body })).json();
}

function drawSamples(run) {
  const cards = [...run.samples].sort().map(([name, sample]) => sampleCard(name, sample, run.model.classes));
  const none = element("p", {}, "None of these images could be read. The reasons are listed below.");
  byId("samples").replaceChildren(...(run.classified.length ? cards : [none]));
  byId("exports").hidden = !run.classified.length;
}

const isNarrow = () => matchMedia("(max-width: 30rem)").matches;

/** Return what is shown of a sample { cells, summary }: a chart, a sentence and counts. */
export function sampleCard(name, { cells, summary }, classes) {
  return element(
    "article",
    { class: "sample", "data-sample": name },
    element("h3", {}, name),
    isMostlyUnlike(cells) ? null : compositionChart(summary.composition, classes, isNarrow()),
    element("p", { class: "sentence" }, composition(name, cells, summary)),
    element("p", { class: "counts" }, verdictCounts(cells)),
  );
}

function drawUnreadable({ unreadable: cells, classified }) {
  const box = byId("unreadable");
  box.hidden = !cells.length;
  // Where nothing could be read there is no gallery, and the reasons are all that there is to see.
  byId("filters").hidden = byId("gallery-and-detail").hidden = !classified.length;
  if (!classified.length) box.open = true;
  box.querySelector("summary").textContent = `${plural(cells.length, "image")} could not be read`;
  const lines = cells.slice(0, MAX_LISTED).map((cell) => element("li", {}, unreadableLine(cell)));
  const more = cells.length - MAX_LISTED;
  if (more > 0) lines.push(element("li", {}, `… and ${number(more)} more; the CSV file lists all of them`));
  box.querySelector("ul").replaceChildren(...lines);
}
