// The files that the user chose, before anything is sent.

import { takePlateMap } from "./compare.js";
import { byId, element, showProblem, showSections } from "./dom.js";
import { planUpload } from "./files.js";
import { plural } from "./format.js";
import { isPrivate } from "./private/switch.js";
import { rejectionLines, uploadSummary } from "./sentences.js";
import { isShared, openShared } from "./share.js";
import { currentModel, state } from "./state.js";

/** Show what of [{ path, file }] would be sent, and what would not and why. */
export async function receiveFiles(chosen) {
  showProblem("");
  if (chosen.length === 1 && isShared(chosen[0].path)) {
    await openShared(chosen[0].file);
    return;
  }
  if (!state.models.length) return;
  const { map, others } = await takePlateMap(chosen);
  const plan = await planUpload(others, currentModel());
  state.plan = { ...plan, plateMap: map };
  const { items, rejected } = plan;
  byId("map-summary").textContent = map ? mapSummary(map) : "";
  byId("upload-summary").textContent = uploadSummary(items, isPrivate());
  byId("rejected").replaceChildren(...rejectedList(rejected));
  byId("start").hidden = !items.length;
  byId("start").textContent = `Classify ${plural(items.length, items.some((item) => item.native) ? "file" : "image")}`;
  showSections("plan");
  byId(items.length ? "start" : "choose-others").focus();
}

const mapSummary = ({ name, rows }) =>
  `${name} is a plate map of ${plural(rows.length, "well or sample", "wells or samples")}: their cultures can be compared. It is not sent.`;

function rejectedList(rejected) {
  if (!rejected.length) return [];
  return [
    element("p", {}, `${plural(rejected.length, "file")} will not be sent:`),
    element("ul", {}, ...rejectionLines(rejected).map((line) => element("li", {}, line))),
  ];
}
