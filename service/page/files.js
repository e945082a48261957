// Turn what the user chose or dropped into items { path, zip, shown, sample, size, read() }, or reject it with a reason.
// A native file of an instrument is { …, native: true, slice(start, stop) }, whose objects are cells.
// Where the model takes several channels, an item is an object: that of its first channel, with `parts`, those of all.
// Nothing is sent here.

import { assignSamples, channelOf, channelsOf, IMAGES, isHidden, nameZips } from "./filenames.js";
import { normalise, sameChannel, withoutChannel } from "./names.js";
import { readZip } from "./zip.js";

const INSTRUMENT_FILE = /\.(daf|fcs)$/i;
const NATIVE_FILE = /\.(cif|rif)$/i;
const INSTRUMENT_FILES = {
  daf: "an analysis file of IDEAS, which holds no pixels; in IDEAS, export one TIFF per cell and channel",
  fcs: "an FCS file, which holds measurements and no images; in IDEAS, export one TIFF per cell and channel",
};
const MAX_BYTES = 200e6;

/** Return [{ path, file }] of what was dropped, folders included. */
export async function fromTransfer(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ path: file.name, file }));
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

/** Return [{ path, file }] of what was chosen in a file input. */
export function fromInput(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function walk(entry, prefix) {
  const path = prefix + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const children = await readFolder(entry.createReader());
  return (await Promise.all(children.map((child) => walk(child, `${path}/`)))).flat();
}

async function readFolder(reader) {
  const children = [];
  // Browsers return at most a hundred entries at a time.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return children;
    children.push(...batch);
  }
}

/**
 * Return { items, rejected }: what can be sent to the model, and [{ path, reason }] of the rest.
 * `zip` of an item is the name of the zip that it is in, `shown` its path with that name where there are several.
 */
export async function planUpload(chosen, model) {
  const { files, rejected } = await openZips(chosen);
  const isOnlyZip = new Set(files.map(({ zip }) => zip)).size < 2;
  const items = [];
  for (const item of files) {
    item.shown = item.zip && !isOnlyZip ? `${item.zip}/${item.path}` : item.path;
    const reason = rejectionReason(item, model);
    if (reason) rejected.push({ path: item.shown, reason });
    else items.push(item);
  }
  assignSamples(items);
  const natives = items.filter((item) => item.native);
  // One acquisition, whatever folder it is in.
  for (const item of natives) item.sample = item.path;
  const images = items.filter((item) => !item.native);
  const channels = channelsOf(model);
  const cells = channels.length > 1 ? intoObjects(images, channels, model, rejected) : images;
  return { items: [...natives, ...cells], rejected };
}

/** Return one item for each object that has all channels, and reject the others. */
function intoObjects(items, channels, model, rejected) {
  const objects = new Map();
  for (const item of items) {
    const channel = channelOf(item.path, model);
    const key = channel && JSON.stringify([item.zip, withoutChannel(item.path, model.regex)]);
    if (!key) {
      const wanted = channels.join(" and ");
      rejected.push({ path: item.shown, reason: `its name says no channel; the model takes ${wanted} of each cell` });
      continue;
    }
    if (!objects.has(key)) objects.set(key, new Map());
    const place = channels.findIndex((one) => sameChannel(one, channel));
    if (!objects.get(key).has(place)) objects.get(key).set(place, item);
    else rejected.push({ path: item.shown, reason: `channel ${channel} of the same cell as another file` });
  }
  const whole = [];
  for (const parts of objects.values()) {
    const lost = channels.filter((_, place) => !parts.has(place));
    if (lost.length) {
      const [first] = parts.values();
      rejected.push({ path: first.shown, reason: `channel ${lost.join(" and ")} of this cell is missing` });
      continue;
    }
    const files = channels.map((channel, place) => ({ channel, item: parts.get(place) }));
    const size = files.reduce((sum, { item }) => sum + item.size, 0);
    whole.push({ ...files[0].item, size, parts: files });
  }
  return whole;
}

/** Return [channel, thumbnail] of a cell in the channels after the first. */
export const otherChannels = (cell, model) =>
  channelsOf(model)
    .slice(1)
    .filter((channel) => cell.thumbnails?.[channel])
    .map((channel) => [channel, cell.thumbnails[channel]]);

/** Return the files of an item, [{ channel, item }]: one, or that of each channel. */
export const partsOf = (item) => item.parts ?? [{ channel: null, item }];

const isZip = ({ path }) => /\.zip$/i.test(path);

async function openZips(chosen) {
  const visible = chosen
    .map(({ path, file }) => ({ path: normalise(path), file }))
    .filter(({ path }) => !isHidden(path));
  const zips = visible.filter(isZip);
  const others = visible.filter((file) => !isZip(file));
  const names = nameZips(
    zips.map(({ path }) => path),
    others.map(({ path }) => path),
  );
  const files = others.map(({ path, file }) => ({
    path,
    zip: "",
    size: file.size,
    native: NATIVE_FILE.test(path),
    read: async () => file,
    slice: (start, stop) => file.slice(start, stop),
  }));
  const rejected = [];
  for (const [i, { path, file }] of zips.entries()) {
    try {
      const inside = (await readZip(file)).filter((item) => !isHidden(item.path));
      files.push(...inside.map((item) => ({ ...item, zip: names[i] })));
    } catch (error) {
      rejected.push({ path, reason: error.message });
    }
  }
  return { files, rejected };
}

function rejectionReason(item, model) {
  if (item.problem) return item.problem;
  const [, kind] = INSTRUMENT_FILE.exec(item.path) ?? [];
  if (kind) return INSTRUMENT_FILES[kind.toLowerCase()];
  if (NATIVE_FILE.test(item.path)) {
    if (!item.native) return "a native file of an instrument in a zip; unpack it and choose the file itself";
    return item.size === 0 ? "the file is empty; copy it again" : null;
  }
  if (!IMAGES.test(item.path)) return "not an image; export single cells as TIFF, PNG or BMP files";
  if (item.size === 0) return "the file is empty; export it again";
  if (item.size > MAX_BYTES) return "larger than 200 MB; export fewer cells per file";
  return channelReason(item, model);
}

function channelReason(item, model) {
  const channel = channelOf(item.path, model);
  const wanted = channelsOf(model);
  if (channel && wanted.length && !wanted.some((one) => sameChannel(one, channel))) {
    const channels = wanted.length > 1 ? `channels ${wanted.join(" and ")}` : `channel ${wanted[0]}`;
    return `channel ${channel}; the model uses ${channels} only`;
  }
  return null;
}
