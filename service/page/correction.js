// Let a person who knows better correct the class of a cell.

import { forTask, request } from "./api.js";
import { element } from "./dom.js";
import { partsOf } from "./files.js";

/** Return a form that sends the true class of a cell and, where it is a file and the person agrees, its image. */
export function correctionForm(cell, item, { task, classes }) {
  const options = classes.map((name) => element("option", { selected: name === cell.label }, name));
  if (cell.queued !== undefined) options.push(element("option", { value: "" }, "nobody can tell"));
  const label = element("select", {}, ...options);
  const keep = element("input", { type: "checkbox" });
  const status = element("p", { class: "hint", role: "status" }, cell.corrected ?? "");
  const form = element(
    "form",
    {},
    cell.queued === undefined
      ? null
      : element("p", { class: "hint" }, "This cell was drawn: say its class also where the model is right."),
    element("label", {}, "Correct class ", label),
    item && element("label", {}, keep, " Also keep the image to train better models"),
    element("button", {}, cell.queued === undefined ? "Send correction" : "Send label"),
    status,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    cell.corrected = await sendCorrection(cell, item, task, { label: label.value, keepImage: keep.checked });
    status.textContent = cell.corrected;
  });
  return form;
}

async function sendCorrection(cell, item, task, { label, keepImage }) {
  const body = new FormData();
  // What is one of many in a file is named by the id of its answer alone; so is a cell that nobody can tell.
  const files = item && label ? partsOf(item) : [];
  for (const { item: file } of files) body.append("image", await file.read(), file.path);
  if (cell.id) body.append("cell", cell.id);
  body.append("label", label);
  body.append("called", cell.label);
  body.append("keep_image", keepImage && files.length > 0);
  try {
    const {
      kept,
      reason,
      counts = true,
    } = await (await request(forTask("feedback", task), { method: "POST", body })).json();
    if (!counts) {
      return "Thank you. Somebody else has said otherwise before, which counts; what you say is kept beside it.";
    }
    if (!label) return "Thank you. Recorded as a cell that nobody can tell.";
    return `Thank you. Recorded as ${label}, ${kept ? "with" : "without"} the image${reason ? `; but ${reason}` : ""}.`;
  } catch (error) {
    return `The correction could not be saved: ${error.message}`;
  }
}
