// Teach a model from the labels that a person gave in the gallery, and save it.

import { forTask, postJSON, request } from "./api.js";
import { byId, element } from "./dom.js";
import { partsOf } from "./files.js";
import { plural } from "./format.js";
import { currentLabels, initLabelling, refresh } from "./labelling.js";
import { lessonLines } from "./lesson.js";
import { state } from "./state.js";
import { intoChunks } from "./upload.js";

const SUGGESTED = 50;
const REVOKE_MS = 10_000; // by then the browser has begun to save the file
const MAX_NATIVE_BYTES = 400e6;

const say = (...lines) => byId("teach-said").replaceChildren(...lines.map((line) => element("p", {}, line)));

/** Ask the service what it sees of the cells that it has not described yet. */
async function describe(run, cells) {
  const missing = cells.filter(({ image_hash, item }) => item && !currentLabels().described.has(image_hash));
  const items = [...new Set(missing.map(({ item }) => item))];
  const images = intoChunks(items.filter((item) => !item.native));
  const natives = items.filter((item) => item.native && item.size <= MAX_NATIVE_BYTES).map((item) => [item]);
  for (const chunk of [...images, ...natives]) {
    const body = new FormData();
    for (const item of chunk) {
      if (item.native) body.append("files", item.slice(0, item.size), item.path);
      else for (const part of partsOf(item)) body.append("files", await part.item.read(), part.item.path);
    }
    const response = await request(forTask("teach/cells", run.model.task), { method: "POST", body });
    currentLabels().addDescribed(await response.json());
    say(`${plural(currentLabels().described.size, "cell")} described …`);
  }
}

async function working(button, act) {
  button.disabled = true;
  try {
    await act();
  } catch (error) {
    say(`It could not be done: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

async function teach() {
  const { run } = state;
  const cells = currentLabels().choose(run.classified);
  await describe(run, cells);
  const began = performance.now();
  const path = forTask("teach/head", run.model.task);
  const answer = await (await postJSON(path, currentLabels().body(cells, { count: SUGGESTED }))).json();
  if (run !== state.run) return;
  currentLabels().answer = answer;
  say(...lessonLines(answer), `${((performance.now() - began) / 1000).toFixed(1)} s.`);
  byId("teach-show").value = "next";
  refresh();
}

async function save() {
  const { run } = state;
  const labelled = [...currentLabels().labels.keys()];
  const fields = { name: byId("teach-name").value.trim(), by: byId("teach-by").value.trim() };
  const response = await postJSON(forTask("teach/bundle", run.model.task), currentLabels().body(labelled, fields));
  const url = URL.createObjectURL(await response.blob());
  element("a", { href: url, download: `fatescope-${fields.name}.zip` }).click();
  setTimeout(() => URL.revokeObjectURL(url), REVOKE_MS);
  say(
    `Saved. Whoever runs the service registers it with "fatescope models add fatescope-${fields.name}.zip"; it is served once it is signed and made the champion.`,
  );
}

/** Label the cells of native files by the populations of an analysis file. */
async function takeAnalysis(file) {
  const { run } = state;
  const response = await request("teach/populations", { method: "POST", body: file });
  const { cif, populations } = await response.json();
  const cells = run.classified.filter(({ item }) => item?.native && item.path.split("/").pop() === cif);
  const count = currentLabels().takePopulations(cells, populations);
  say(
    cells.length
      ? `${plural(count, "cell")} of ${cif} labelled by ${plural(populations.length, "population")}.`
      : `It is of ${cif}, which is not among these cells; choose that file and its analysis.`,
  );
  refresh();
}

/** Connect the labelling mode with the gallery and the service; `draw` shows the cells of the run again. */
export function initTeaching(gallery, draw) {
  initLabelling(gallery, draw);
  byId("teach-add").addEventListener("submit", (event) => {
    event.preventDefault();
    const problem = currentLabels().addClass(byId("teach-class").value);
    if (problem) say(problem);
    else byId("teach-class").value = "";
    refresh();
  });
  byId("teach-learn").addEventListener("click", ({ target }) => working(target, teach));
  byId("teach-daf").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) working(target, () => takeAnalysis(file));
    target.value = "";
  });
  byId("teach-save").addEventListener("submit", (event) => {
    event.preventDefault();
    working(event.submitter, save);
  });
}
