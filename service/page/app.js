// Connect the controls of the page with what they do.

import { request } from "./api.js";
import { initCells } from "./cells.js";
import { startOver, startRun } from "./classify.js";
import { initCompare, usePlateMap } from "./compare.js";
import { byId, showProblem } from "./dom.js";
import { download } from "./downloads.js";
import { fromInput, fromTransfer } from "./files.js";
import { initKept } from "./kept-offer.js";
import { describeModel, loadModels } from "./models.js";
import { initQueue } from "./queue.js";
import { initPrivate, turn } from "./private/switch.js";
import { printReport } from "./report.js";
import { drawResults } from "./results.js";
import { addPlateMap, receiveFiles } from "./selection.js";
import { initShare } from "./share.js";
import { currentModel, state } from "./state.js";

const onClick = (id, act) => byId(id).addEventListener("click", act);

async function tryExample() {
  try {
    const zip = await (await request(`sample/${currentModel().task}`)).blob();
    await receiveFiles([{ path: "example.zip", file: zip }]);
    await startRun();
  } catch (error) {
    showProblem(`The example cells could not be loaded: ${error.message}`);
  }
}

const mark = (over) => byId("drop").classList.toggle("over", over);

function acceptDrops() {
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      mark(true);
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark(false); // the pointer has left the window
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(false);
    const files = await fromTransfer(event.dataTransfer);
    if ((await usePlateMap(files)) || (await addPlateMap(files))) return;
    startOver();
    await receiveFiles(files);
  });
}

byId("task").addEventListener("change", async () => {
  await describeModel();
  turn(currentModel());
  // What was answered is of the other model; what was chosen is read anew, because each reads names in its own way.
  const chosen = state.run ? [] : state.plan.chosen;
  if (state.run || chosen.length) startOver();
  if (chosen.length) await receiveFiles(chosen, { focus: false });
});
onClick("pick-files", () => byId("files").click());
onClick("pick-folder", () => byId("folder").click());
for (const id of ["files", "folder"]) byId(id).addEventListener("change", () => receiveFiles(fromInput(byId(id))));
onClick("try-example", tryExample);
onClick("start", () => startRun());
onClick("choose-others", startOver);
onClick("start-over", startOver);
onClick("cancel", () => state.run.controller.abort());
onClick("retry", () => startRun(state.run.missing));
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => download(state.run, button.dataset.format));
}
byId("exclude-outside").addEventListener("change", ({ target }) => {
  state.run.excludeOutside(target.checked);
  drawResults(state.run, { now: true });
});
onClick("print", () => printReport(state.run));
initCells();
initCompare();
initQueue();
initKept();
initShare();
acceptDrops();
initPrivate(currentModel, startOver);
await loadModels();
turn(currentModel());
// A link may ask for an answer at once, as the one that `fatescope demo` opens does.
if (location.hash === "#example" && state.models.length) tryExample();
