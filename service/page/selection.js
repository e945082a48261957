// The files that the user chose, before anything is sent.

import { byId, element, showProblem, showSections } from "./dom.js";
import { planUpload } from "./files.js";
import { plural } from "./format.js";
import { takePlateMap } from "./plate-files.js";
import { isPrivate } from "./private/switch.js";
import { rejectionLines, uploadSummary } from "./sentences.js";
import { isShared, openShared } from "./share.js";
import { currentModel, state } from "./state.js";

/** Show what of [{ path, file }] would be sent, and what would not and why; then go on there, unless `focus` is false. */
export async function receiveFiles(chosen, { focus = true } = {}) {
  showProblem("");
  if (chosen.length === 1 && isShared(chosen[0].path)) {
    await openShared(chosen[0].file);
    return;
  }
  if (!state.models.length) return;
  const { map, others } = await takePlateMap(chosen);
  const plan = await planUpload(others, currentModel());
  state.plan = { ...plan, chosen, plateMap: map };
  const { items, rejected } = plan;
  describeMap(state.plan);
  byId("upload-summary").textContent = uploadSummary(items, isPrivate());
  byId("rejected").replaceChildren(...rejectedList(rejected));
  byId("start").hidden = !items.length;
  byId("start").textContent = `Classify ${plural(items.length, items.some((item) => item.native) ? "file" : "image")}`;
  showSections("plan");
  if (focus) byId(items.length ? "start" : "choose-others").focus();
}

/** Add a plate map to the files that are planned; return whether `chosen` was one, and nothing else, and there are any. */
export async function addPlateMap(chosen) {
  const { plan } = state;
  if (!plan.items.length) return false;
  const { map, others } = await takePlateMap(chosen);
  if (!map || others.length) return false;
  plan.plateMap = map;
  describeMap(plan);
  return true;
}

function describeMap({ plateMap: map, items }) {
  byId("map-summary").textContent = map ? mapSummary(map, items.length > 0) : "";
}

function mapSummary({ name, rows }, hasImages) {
  const what = `${name} is a plate map of ${plural(rows.length, "well or sample", "wells or samples")}`;
  return hasImages
    ? `${what}: their cultures can be compared. It is not sent.`
    : `${what}. Choose it together with the images, or drop it on their results.`;
}

function rejectedList(rejected) {
  if (!rejected.length) return [];
  return [
    element("p", {}, `${plural(rejected.length, "file")} will not be sent:`),
    element("ul", {}, ...rejectionLines(rejected).map((line) => element("li", {}, line))),
  ];
}
