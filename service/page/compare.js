// The section that compares cultures: the roles of the samples, the answer of the service, its charts and files.

import { forTask, postJSON } from "./api.js";
import { comparisonView, STACKED } from "./comparison-view.js";
import { sampleTable, toCSV } from "./comparison-table.js";
import {
  areComparable,
  comparedSamples,
  conditionsOf,
  initialRoles,
  leftOutLines,
  rolesSummary,
  unifyConditions,
  usualReference,
} from "./comparison.js";
import { byId, element, showProblem } from "./dom.js";
import { saveFile } from "./downloads.js";
import { agree, plural } from "./format.js";
import { keepRun } from "./kept.js";
import { takePlateMap } from "./plate-files.js";
import { matchSamples, readPlateMap } from "./plate-map.js";
import { isPrivate } from "./private/switch.js";
import { RoleTable } from "./role-table.js";
import { state } from "./state.js";

const DELAY_MS = 300; // changes of that time are compared together
const PRIVATE =
  "The service compares cultures, and nothing is sent to it while “Do not send my images” is on. To compare, turn that off and show these results again where the page offers them: names, roles and shares of the samples are then sent, and no images.";

let timer = 0;
let table = null;
let drawnRun = null; // whose comparison is on display

/** Show the comparison of a run that has ended, if it has samples to compare. */
export function showComparison(run) {
  clearTimeout(timer);
  byId("compare").hidden = !run.finished || run.samples.size < 2;
  if (byId("compare").hidden) return;
  const isNew = !run.roles;
  run.roles ??= new Map();
  const missing = [...run.samples.keys()].sort().filter((sample) => !run.roles.has(sample));
  giveRoles(run, missing, run.plateMap ?? state.plan.plateMap);
  if (isNew) byId("roles").open = conditionsOf(run.roles).size < 2;
  drawRoles(run);
  compare(run);
}

function giveRoles(run, samples, map) {
  const rows = matchSamples(map?.rows ?? [], samples);
  for (const sample of samples) run.roles.set(sample, initialRoles(sample, rows.get(sample)));
  if (map) run.plateMap = map;
  const without = samples.length - rows.size;
  const lines = [...(map?.problems ?? [])];
  if (map && without && samples.length) {
    const what = agree(without, "keeps what its name says", "keep what their names say");
    lines.push(`${plural(without, "sample")} not found in it ${what}`);
  }
  byId("map-problems").replaceChildren(...lines.map((line) => element("li", {}, `${map.name}: ${line}.`)));
}

function drawRoles(run) {
  unifyConditions(run.roles);
  table.show(run.roles);
  describeRoles(run);
}

function describeRoles(run) {
  byId("roles-summary").textContent = rolesSummary(run.roles);
  const conditions = [...conditionsOf(run.roles).keys()];
  const chosen = conditions.includes(run.reference) ? run.reference : usualReference(conditions);
  byId("reference").replaceChildren(...conditions.map((value) => element("option", { value }, value)));
  byId("reference").value = chosen ?? "";
  byId("reference-choice").hidden = conditions.length < 2;
}

function rolesChanged(run) {
  unifyConditions(run.roles);
  table.update();
  describeRoles(run);
  clearTimeout(timer);
  // A run that was left by then, perhaps a private one, is sent nowhere.
  timer = setTimeout(() => run === state.run && compare(run), DELAY_MS);
  keepRun(run);
}

async function compare(run) {
  const { leftOut, unit, lostDoses, samples } = comparedSamples(run, run.roles);
  const notes = leftOutLines(leftOut);
  if (lostDoses) notes.push("Doses are not used, because their units cannot be converted into each other.");
  byId("comparison-notes").replaceChildren(...notes.map((note) => element("p", { class: "hint" }, note)));
  run.comparison = null;
  // A file of what is being replaced would not say what the page says a moment later.
  byId("comparison-exports").hidden = true;
  if (drawnRun !== run) drawComparison(run);
  if (!areComparable(samples)) {
    showAnswer(run, "Nothing to compare yet: give the samples two conditions, days or doses in the table above.");
    return;
  }
  if (isPrivate()) {
    showAnswer(run, PRIVATE);
    return;
  }
  const asked = Symbol("request");
  run.asked = asked;
  byId("comparison-text").textContent = "Comparing …";
  try {
    const { version } = run.lastResponse.model;
    const reference = byId("reference").value || null;
    const body = { task: run.model.task, version, samples, reference, dose_unit: unit };
    const answer = await (await postJSON(forTask("compare", run.model.task), body)).json();
    if (run !== state.run || run.asked !== asked) return;
    run.comparison = { body, answer, unit, notes };
    showAnswer(run, `${plural(samples.length, "sample")} compared.`);
  } catch (error) {
    if (run === state.run && run.asked === asked)
      showAnswer(run, `The comparison could not be computed: ${error.message}`);
  }
}

function showAnswer(run, text) {
  byId("comparison-text").textContent = text;
  byId("comparison-exports").hidden = !run.comparison;
  drawComparison(run);
}

function drawComparison(run) {
  const { comparison, model } = run;
  drawnRun = run;
  byId("comparison").replaceChildren(...(comparison ? comparisonView(comparison, model.classes) : []));
}

/** Use a plate map for the run in progress or on display; return whether `chosen` was one, and nothing else. */
export async function usePlateMap(chosen) {
  const { run } = state;
  if (!run) return false;
  const { map, others } = await takePlateMap(chosen);
  if (!map || others.length) return false;
  if (!run.roles) {
    run.plateMap = map;
    const fate = run.finished
      ? "is a plate map, but nothing can be compared: the results on display are of less than two samples."
      : "is a plate map, and will be used once the cells are classified.";
    byId("progress-text").textContent = `${map.name} ${fate}`;
    return true;
  }
  giveRoles(run, [...run.roles.keys()], map);
  byId("roles").open = true;
  drawRoles(run);
  compare(run);
  keepRun(run);
  return true;
}

async function chooseMap({ target }) {
  const chosen = [...target.files].map((file) => ({ path: file.name, file }));
  target.value = "";
  if (await usePlateMap(chosen)) return;
  const problems = chosen.length ? readPlateMap(await chosen[0].file.text()).problems : [];
  const lines = problems.map((problem) => element("li", {}, `${chosen[0].path}: ${problem}.`));
  byId("map-problems").replaceChildren(...lines);
}

const fileName = ({ model }, kind) => `fatescope-${model.task}-${kind}.csv`;

async function saveDifferences(run) {
  try {
    const response = await postJSON(forTask("compare?format=csv", run.model.task), run.comparison.body);
    saveFile(await response.blob(), fileName(run, "differences"));
  } catch (error) {
    showProblem(`The download failed: ${error.message}`);
  }
}

/** Connect the controls of the section. */
export function initCompare() {
  table = new RoleTable(byId("roles-table"), byId("conditions"), () => rolesChanged(state.run));
  byId("reference").addEventListener("change", ({ target }) => {
    state.run.reference = target.value;
    compare(state.run);
    keepRun(state.run);
  });
  matchMedia(STACKED).addEventListener("change", () => state.run?.comparison && drawComparison(state.run));
  byId("pick-map").addEventListener("click", () => byId("map-file").click());
  byId("map-file").addEventListener("change", (event) => chooseMap(event).catch((error) => showProblem(error.message)));
  byId("roles-from-names").addEventListener("click", () => {
    state.run.plateMap = null;
    giveRoles(state.run, [...state.run.roles.keys()], null);
    drawRoles(state.run);
    compare(state.run);
    keepRun(state.run);
  });
  byId("save-differences").addEventListener("click", () => saveDifferences(state.run));
  byId("save-samples").addEventListener("click", () => {
    const { answer, unit } = state.run.comparison;
    saveFile(new Blob([toCSV(sampleTable(answer, unit))], { type: "text/csv" }), fileName(state.run, "samples"));
  });
}
