// The files that the user chose, before anything is sent.

import { byId, element, showProblem, showSections } from "./dom.js";
import { planUpload } from "./files.js";
import { plural } from "./format.js";
import { isPrivate } from "./private/switch.js";
import { rejectionLines, uploadSummary } from "./sentences.js";
import { currentModel, state } from "./state.js";

/** Show what of [{ path, file }] would be sent, and what would not and why. */
export async function receiveFiles(chosen) {
  showProblem("");
  if (!state.models.length) return;
  state.plan = await planUpload(chosen, currentModel());
  const { items, rejected } = state.plan;
  byId("upload-summary").textContent = uploadSummary(items, isPrivate());
  byId("rejected").replaceChildren(...rejectedList(rejected));
  byId("start").hidden = !items.length;
  byId("start").textContent = `Classify ${plural(items.length, items.some((item) => item.native) ? "file" : "image")}`;
  showSections("plan");
  byId(items.length ? "start" : "choose-others").focus();
}

function rejectedList(rejected) {
  if (!rejected.length) return [];
  return [
    element("p", {}, `${plural(rejected.length, "file")} will not be sent:`),
    element("ul", {}, ...rejectionLines(rejected).map((line) => element("li", {}, line))),
  ];
}
