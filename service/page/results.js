// The composition of every sample, the warnings above it and the list of images that could not be read.

import { forTask, postJSON } from "./api.js";
import { showCells } from "./cells.js";
import { compositionChart } from "./charts.js";
import { showComparison } from "./compare.js";
import { descriptionBox } from "./description.js";
import { byId, element, fillFilter, showProblem, showSections } from "./dom.js";
import { number, plural } from "./format.js";
import { keepRun } from "./kept.js";
import { composedCells } from "./quality.js";
import { groupBy, isMostlyUnlike } from "./samples.js";
import { composition, followedCells, noneReadable, qualityCounts, unreadableLine, verdictCounts } from "./sentences.js";
import { state } from "./state.js";
import { answerTracks, countOnce } from "./tracks.js";
import { warningBanners } from "./warnings.js";

const DELAY_MS = 800; // responses of that time are drawn together
const MANY = 2_000; // cells
// How much the cells grow before they are drawn again. What is drawn is computed of all of them, by the service: of many,
// each is sent twice with its sample, and once with all.
const growth = (cells) => (cells < MANY ? 1.05 : 2);
const MAX_LISTED = 500; // images that could not be read

let timer = 0;
let lastDrawing = Promise.resolve();
let drawings = 0;
let drawnRun = null;
let drawnCells = 0;

/** Draw the results of a run: the first ones and, with `now`, the last ones at once, others after a short delay. */
export function drawResults(run, { now = false } = {}) {
  if (!now && run === drawnRun && run.cells.length < drawnCells * growth(drawnCells)) return;
  clearTimeout(timer);
  // Until the last one is drawn, also for those who hear the page: a composition that is on display may be an older one.
  const drawing = ++drawings;
  const isDone = () => drawing === drawings && byId("samples").setAttribute("aria-busy", "false");
  byId("samples").setAttribute("aria-busy", "true");
  // One after the other, because each waits for the service.
  const draw = () => (lastDrawing = lastDrawing.then(() => drawRun(run)).finally(isDone));
  timer = setTimeout(draw, now || run !== drawnRun ? 0 : DELAY_MS);
  drawnRun = run;
}

async function drawRun(run) {
  if (run !== state.run) return;
  drawnCells = run.cells.length;
  // At once: of many cells, the summaries take seconds.
  drawCells(run);
  try {
    await summariseSamples(run);
  } catch (error) {
    showProblem(`The composition could not be computed: ${error.message}`);
  }
  if (run !== state.run) return;
  showSections("progress", ...(run.cells.length ? ["answer", "cells"] : []));
  showComparison(run);
  drawSamples(run);
  byId("warnings").replaceChildren(...warningBanners(run, state.examples));
  keepRun(run);
}

function drawCells(run) {
  byId("cells").hidden = !run.cells.length;
  drawUnreadable(run);
  const names = [...new Set(run.classified.map((cell) => cell.sample))].sort();
  fillFilter(byId("by-sample"), names);
  byId("sample-filter").hidden = names.length < 2;
  showCells(run);
}

async function summariseSamples(run) {
  const cells = run.classified;
  const bySample = groupBy(cells, (cell) => cell.sample);
  for (const [name, its] of bySample) {
    if (!isOf(its, run.samples.get(name))) run.samples.set(name, await summarised(run, its));
  }
  const [only] = run.samples.values();
  if (bySample.size < 2) run.overall = only;
  else if (!isOf(cells, run.overall) && (run.finished || !run.overall || cells.length < MANY)) {
    run.overall = await summarised(run, cells);
  }
}

// A run only grows, so that as many cells are the same.
const isOf = (cells, sample) => sample?.cells.length === cells.length;

async function summarised({ model, excludesOutside }, cells) {
  const tracks = answerTracks(cells, model);
  const composed = composedCells(countOnce(cells, model, tracks), excludesOutside);
  return { cells, excludesOutside, followed: tracks.length, summary: await summarise(model, composed) };
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
  const cards = [...run.samples].sort().map(([name, sample]) => {
    const card = sampleCard(name, sample, run.model.classes);
    if (run.finished) card.append(descriptionBox(run, name, sample));
    return card;
  });
  const none = element("p", {}, noneReadable(run.unreadable.length));
  byId("samples").replaceChildren(...(run.classified.length ? cards : [none]));
  byId("exports").hidden = !run.classified.length;
  const judges = run.model.excludes_outside != null;
  byId("quality-switch").hidden = !judges || !run.classified.length;
  byId("quality-filter").hidden = !judges;
  byId("exclude-outside").checked = run.excludesOutside;
}

const isNarrow = () => matchMedia("(max-width: 30rem)").matches;

/** Return what is shown of a sample { cells, summary, followed }: a chart, which may be narrow, a sentence and counts. */
export function sampleCard(name, { cells, summary, excludesOutside, followed }, classes, narrow = isNarrow()) {
  const quality = qualityCounts(cells, excludesOutside);
  return element(
    "article",
    { class: "sample", "data-sample": name },
    element("h3", {}, name),
    isMostlyUnlike(cells) || !summary.composition ? null : compositionChart(summary.composition, classes, narrow),
    element("p", { class: "sentence" }, composition(name, cells, summary)),
    element("p", { class: "counts" }, verdictCounts(cells)),
    followed ? element("p", { class: "counts" }, followedCells(followed)) : null,
    quality && element("p", { class: "counts quality" }, quality),
  );
}

function drawUnreadable({ unreadable: cells, classified }) {
  const box = byId("unreadable");
  box.hidden = !cells.length;
  // Where nothing could be read there is no gallery, and the reasons are all that there is to see.
  byId("filters").hidden = byId("gallery-and-detail").hidden = !classified.length;
  byId("cells-title").textContent = classified.length ? "Cells" : "Images that could not be read";
  if (!classified.length) box.open = true;
  box.querySelector("summary").textContent = `${plural(cells.length, "image")} could not be read`;
  const lines = cells.slice(0, MAX_LISTED).map((cell) => element("li", {}, unreadableLine(cell)));
  const more = cells.length - MAX_LISTED;
  if (more > 0) lines.push(element("li", {}, `… and ${number(more)} more; the CSV file lists all of them`));
  box.querySelector("ul").replaceChildren(...lines);
}
