// The models that the service offers, and the one that is selected.

import { hasKey, request, saveKey } from "./api.js";
import { byId, element, fillFilter, showProblem } from "./dom.js";
import { toRegExp } from "./filenames.js";
import { modelScope } from "./sentences.js";
import { currentModel, state } from "./state.js";

const UNAUTHORIZED = 401;

/** Load the list of models and describe the first one; ask for an API key where the service wants one. */
export async function loadModels() {
  try {
    const models = await (await request("models")).json();
    state.models = models.map((model) => ({ ...model, regex: toRegExp(model.pattern) }));
  } catch (error) {
    if (error.status === UNAUTHORIZED) askForKey();
    else showProblem(`The service cannot be reached: ${error.message}`);
    return;
  }
  byId("task").replaceChildren(...state.models.map(({ task }) => element("option", { value: task }, task)));
  await describeModel();
}

/** Show what the selected model is and expects. */
export async function describeModel() {
  const model = currentModel();
  byId("card").href = model.card;
  byId("simulated").hidden = !model.simulated;
  byId("simulated-notice").hidden = !model.simulated;
  byId("model-scope").textContent = modelScope(model);
  fillFilter(byId("by-class"), model.classes);
  try {
    state.examples = (await (await request(`examples/${model.task}`)).json()).pictures;
  } catch {
    // The page works without them.
    state.examples = [];
  }
}

function useKey(event) {
  event.preventDefault();
  saveKey(byId("secret").value);
  byId("key").hidden = true;
  loadModels();
}

function askForKey() {
  if (hasKey())
    byId("key").querySelector("label").textContent = "The service did not accept this API key. Enter another:";
  byId("key").hidden = false;
  byId("key").addEventListener("submit", useKey, { once: true });
}
