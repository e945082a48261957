// What the page knows at the moment; the other modules read and replace it.

import { byId } from "./dom.js";

export const state = {
  models: [], // as /models lists them, each with `regex`, its file name pattern
  examples: [], // base64 PNGs of cells that the current model was trained on
  plan: { chosen: [], items: [], rejected: [], plateMap: null }, // the files that the user chose
  run: null, // the Run in progress or on display
};

/** Return the model that is selected. */
export const currentModel = () => state.models.find((model) => model.task === byId("task").value);
