// The switch "Do not send my images": while it is on, the page answers its own requests, and no cell leaves the browser.

import { answerRequests } from "../api.js";
import { byId } from "../dom.js";
import { agree } from "../format.js";
import { Answers } from "./answers.js";
import { forget, keep } from "./offline-store.js";

const KEY = "private"; // in the storage of the browser, so that the next visit is private too

const answers = new Answers();
const text = {
  off: "",
  loading: "Loading the model into this browser …",
  kept: "From now on this works without a network, too.",
};

/** Return whether images stay in this browser. */
export const isPrivate = () => byId("private-switch").checked;

/** Connect the switch; `currentModel` returns the chosen model, and `startOver` forgets what is on display. */
export function initPrivate(currentModel, startOver) {
  const box = byId("private-switch");
  box.checked = localStorage.getItem(KEY) !== null;
  box.addEventListener("change", () => {
    if (box.checked) localStorage.setItem(KEY, "1");
    else localStorage.removeItem(KEY);
    startOver();
    turn(currentModel());
  });
  // From the first request on: what fails here must not be sent instead.
  answerRequests((path, options) => (isPrivate() ? answers.answer(path, options, currentModel()) : null));
}

/** Classify native files in this browser, as `classifyNatives` does by the service. */
export const classifyNativesHere = (...how) => answers.classifyNatives(...how);

/** Load the chosen model into the browser where the switch is on, and say how that went. */
export async function turn(model) {
  const status = byId("private-status");
  document.body.classList.toggle("private", isPrivate());
  status.textContent = text.off;
  if (!isPrivate()) {
    answers.close();
    await forget();
    return;
  }
  if (!model) return;
  status.textContent = text.loading;
  try {
    const pool = await answers.load(model.task);
    status.textContent = checked(pool);
    if (await isKept(model.task, pool.spec)) status.textContent = `${checked(pool)} ${text.kept}`;
    if (!isPrivate()) status.textContent = text.off;
  } catch (error) {
    status.textContent = `This browser cannot classify: ${error.message}. Nothing is sent as long as this is on.`;
  }
}

// A browser that keeps nothing classifies all the same.
const isKept = (task, spec) => keep(task, spec).catch(() => false);

const checked = ({ workers }) =>
  `The model runs in this browser, in ${agree(workers.length, "one thread", `${workers.length} threads`)}, and gave the ` +
  "results of its test cells. Images and results stay here.";
