// Turn what the user chose or dropped into items { path, zip, shown, sample, size, read() }, or reject it with a reason.
// Nothing is sent here.

import { assignSamples, channelOf, IMAGES, isHidden, nameZips } from "./filenames.js";
import { normalise, sameChannel } from "./names.js";
import { readZip } from "./zip.js";

const INSTRUMENT_FILE = /\.(cif|rif|daf|fcs)$/i;
const RAW = "a raw file of an Amnis instrument, not exported images; in IDEAS, export one TIFF per cell and channel";
const INSTRUMENT_FILES = {
  cif: RAW,
  rif: RAW,
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
  return { items, rejected };
}

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
  const files = others.map(({ path, file }) => ({ path, zip: "", size: file.size, read: async () => file }));
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
  if (!IMAGES.test(item.path)) return "not an image; export single cells as TIFF, PNG or BMP files";
  if (item.size === 0) return "the file is empty; export it again";
  if (item.size > MAX_BYTES) return "larger than 200 MB; export fewer cells per file";
  const channel = channelOf(item.path, model);
  if (channel && model.channel && !sameChannel(channel, model.channel)) {
    return `channel ${channel}; the model uses channel ${model.channel} only`;
  }
  return null;
}
