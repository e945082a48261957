// Let a person who knows better correct the class of a cell.

import { forTask, request } from "./api.js";
import { element } from "./dom.js";

/** Return a form that sends the true class of a cell and, where the person agrees, its image. */
export function correctionForm(cell, item, { task, classes }) {
  const options = classes.map((name) => element("option", { selected: name === cell.label }, name));
  const label = element("select", {}, ...options);
  const keep = element("input", { type: "checkbox" });
  const status = element("p", { class: "hint", role: "status" }, cell.corrected ?? "");
  const form = element(
    "form",
    {},
    element("label", {}, "Correct class ", label),
    element("label", {}, keep, " Also keep the image to train better models"),
    element("button", {}, "Send correction"),
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
  body.append("image", await item.read(), item.path);
  body.append("label", label);
  body.append("called", cell.label);
  body.append("keep_image", keepImage);
  try {
    const { kept, reason } = await (await request(forTask("feedback", task), { method: "POST", body })).json();
    return `Thank you. Recorded as ${label}, ${kept ? "with" : "without"} the image${reason ? `; but ${reason}` : ""}.`;
  } catch (error) {
    return `The correction could not be saved: ${error.message}`;
  }
}
