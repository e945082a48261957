// Activation maps: what the network responded to in a cell, of an image, a page of a TIFF, or an object of a .cif.

import { forTask, request } from "./api.js";
import { element, picture } from "./dom.js";
import { partsOf } from "./files.js";
import { bytes, number, plural } from "./format.js";

/** Larger files with several pages are sent again only where a person asks for it. */
export const AUTOMATIC_BYTES = 2e6;
const SLICE = 1 << 18; // bytes
const MAX_REQUESTS = 16; // for one object, of which each says what was missing

/** Return why a cell has no map; null where it has one. */
export function reasonWithoutMap({ item, place }) {
  if (!item) return "The file of this cell is not known, so that there is no activation map.";
  if (item.gone)
    return "These results were kept without the image files: to see the activation map, classify the cells again.";
  if (item.native && !place) return "Where this cell is in its file is not known, so that there is no activation map.";
  return null;
}

/** Return how many bytes are sent for the map of a cell, where that is so many that a person should be asked first. */
export function bytesToAskFor({ item, page }) {
  if (page == null) return 0;
  const size = partsOf(item).reduce((sum, { item: file }) => sum + file.size, 0);
  return size > AUTOMATIC_BYTES ? size : 0;
}

/** Return the map of a cell, { png, label, scale, total, rows, columns, version }, which is asked for once. */
export async function mapOf(cell, task) {
  cell.map ??= await (cell.item.native ? ofObject(cell, task) : ofImage(cell, task));
  return cell.map;
}

const withVersion = ({ activation_map: map, model }) => ({ ...map, version: model.version });

async function ofImage({ item, page, label }, task) {
  const body = new FormData();
  for (const { channel, item: file } of partsOf(item)) {
    body.append(channel == null ? "image" : `image_${channel}`, await file.read(), file.path);
  }
  const query = new URLSearchParams(page == null ? { label } : { label, page });
  const response = await request(forTask(`explain?${query}`, task), { method: "POST", body });
  return withVersion(await response.json());
}

async function ofObject({ item, label, place }, task) {
  // Where its directory begins; what else belongs to it, the service asks for.
  const at = Number(place.split("-")[2]);
  // The header of the file is the same for all of its objects.
  item.header ??= [{ start: 0, stop: SLICE }];
  let slices = merge([...item.header, { start: at, stop: at + SLICE }], item.size);
  for (let requests = 0; requests < MAX_REQUESTS; requests++) {
    const query = new URLSearchParams({ name: item.path, size: item.size, place, label });
    const body = new FormData();
    for (const { start, stop } of slices) {
      query.append("offset", start);
      body.append("slices", new Blob([await item.slice(start, stop).arrayBuffer()]));
    }
    const answer = await (await request(forTask(`explain_slices?${query}`, task), { method: "POST", body })).json();
    if (answer.activation_map) return withVersion(answer);
    slices = answer.next.slices;
    item.header = slices.filter(({ stop }) => stop <= at);
  }
  throw new Error("its parts lie too far apart");
}

/** Return the same bytes of a file of `size` bytes in ascending order, in as few slices as possible. */
export function merge(slices, size) {
  const merged = [];
  for (const { start, stop } of [...slices].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    const end = Math.min(stop, size);
    if (last && start <= last.stop) last.stop = Math.max(last.stop, end);
    else if (start < end) merged.push({ start, stop: end });
  }
  return merged;
}

/** Format what is added to a logit: "+0.31", "−1.9". */
export function signed(value) {
  const text = Math.abs(value) < 0.005 ? "0" : number(Number(Math.abs(value).toPrecision(2)));
  return text === "0" ? text : `${value < 0 ? "−" : "+"}${text}`;
}

/** Say what the colours of a map are worth; `version` is that of the model that classified the cell. */
export function mapSentences({ label, scale, total, rows, columns, version: drawn }, version) {
  const positions = `The map has ${rows} × ${columns} positions: one at full red adds ${signed(scale)} to the logit of ${label}, one at full blue adds ${signed(-scale)}. All together add ${signed(total)}.`;
  return [
    `Red areas are evidence for ${label}, blue areas against it.`,
    scale === 0 ? "No position of this map adds anything." : positions,
    `The logit is the score that the probability is computed from: each +1 multiplies the odds of ${label} by 2.7.`,
    total < 0
      ? `Where all together take from it, ${label} may still be the most probable class: the other classes may lose more, and a part of each logit is the same for all cells.`
      : "",
    drawn === version ? "" : `Version ${drawn} of the model has drawn it; version ${version} has classified the cell.`,
  ].filter(Boolean);
}

/** Draw the scale of a map. */
function mapScale({ label, scale }) {
  const [least, most] = [signed(-scale), signed(scale)];
  return element(
    "div",
    { class: "map-scale", role: "img", "aria-label": `Scale of the map, in logits of ${label}: ${least} to ${most}` },
    element("span", { class: "ramp" }),
    ...[least, "0", `${most} logit`].map((tick) => element("span", {}, tick)),
  );
}

/** Draw a map over the picture in `box`, and its scale and what it means into `note`. */
export function drawMap(map, version, { box, note }) {
  box.append(picture(map.png, { class: "map", alt: `Activation map for ${map.label}` }));
  const [first, ...others] = mapSentences(map, version);
  note.replaceChildren(
    ...(map.scale ? [mapScale(map)] : []),
    element("p", { class: "hint" }, first),
    element(
      "details",
      {},
      element("summary", {}, "What the colours are worth"),
      ...others.map((sentence) => element("p", {}, sentence)),
    ),
  );
}

/** Return a button that asks for the map of a cell in a large file. */
export function askButton(cell, size, onClick) {
  const { item } = cell;
  const button = element("button", { type: "button", class: "quiet" }, "Show the activation map");
  button.addEventListener("click", onClick, { once: true });
  const files = plural(partsOf(item).length, "file");
  return [
    button,
    element("p", { class: "hint" }, `For it, ${files} with all pages (${bytes(size)}) will be sent once more.`),
  ];
}
