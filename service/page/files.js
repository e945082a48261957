// What was dropped: files, folders and zips become items { path, sample, size, read() }, or are left out with a reason.
// Nothing is sent here.

const IMAGES = /\.(tiff?|png|bmp|jpe?g)$/i;
const LARGEST = 200e6;
const EXPORTED = /(?:^|[/_])(?<object>\d+)_Ch(?<channel>\d+)\./;

export async function fromTransfer(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ path: file.name, file }));
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

export function fromInput(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function walk(entry, prefix) {
  const path = prefix + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((done, fail) => entry.file(done, fail)) }];
  const reader = entry.createReader();
  const children = [];
  // A folder comes in pieces of a hundred.
  for (;;) {
    const piece = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!piece.length) break;
    children.push(...piece);
  }
  return (await Promise.all(children.map((child) => walk(child, path + "/")))).flat();
}

export async function plan(dropped, model) {
  const found = [];
  const left = [];
  for (const { path, file } of dropped) {
    if (isHidden(path)) continue;
    if (/\.zip$/i.test(path)) {
      try {
        found.push(...(await openZip(file)).filter((item) => !isHidden(item.path)));
      } catch (error) {
        left.push({ path, why: error.message });
      }
    } else {
      found.push({ path, size: file.size, read: async () => file });
    }
  }
  const items = [];
  for (const item of found) {
    const why = reason(item, model);
    if (why) left.push({ path: item.path, why });
    else items.push(item);
  }
  nameSamples(items);
  return { items, left };
}

function isHidden(path) {
  return path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX" || part === "Thumbs.db");
}

function reason(item, model) {
  if (!IMAGES.test(item.path)) return "not an image; single-cell images are TIFF, PNG or BMP files";
  if (item.size === 0) return "the file is empty; export it again";
  if (item.size > LARGEST) return "larger than 200 MB; export fewer cells a file";
  const channel = channelOf(item.path, model);
  if (channel && model.channel && channel !== model.channel)
    return `channel ${channel}; the model looks at channel ${model.channel} only`;
  return null;
}

export function channelOf(path, model) {
  for (const pattern of [model.regex, EXPORTED]) {
    const match = pattern?.exec(path);
    if (match) return match.groups?.channel ?? null;
  }
  return null;
}

// Python spells the groups of a pattern in its own way.
export function toRegex(pattern) {
  try {
    return pattern ? new RegExp(pattern.replaceAll("(?P<", "(?<")) : null;
  } catch {
    return null;
  }
}

function nameSamples(items) {
  const folders = items.map((item) => item.path.split("/").slice(0, -1));
  let shared = 0;
  while (folders.length && folders.every((parts) => parts.length > shared + 1 && parts[shared] === folders[0][shared])) shared++;
  items.forEach((item, i) => (item.sample = folders[i].slice(shared).join("/") || folders[i].at(-1) || "Dropped images"));
}

// The directory of a zip is read here, so that the page can say what is in it and send it in pieces.
async function openZip(file) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - 65557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("not a zip that can be opened; pack it again, or drop the folder itself");
  const count = tail.getUint16(end + 10, true);
  const size = tail.getUint32(end + 12, true);
  const start = tail.getUint32(end + 16, true);
  if (count === 0xffff || start === 0xffffffff) throw new Error("a zip of more than 65,534 files or 4 GB; drop the folder itself");
  const view = new DataView(await file.slice(start, start + size).arrayBuffer());
  const text = new TextDecoder();
  const items = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== 0x02014b50) throw new Error("a zip that is damaged; pack it again");
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [packed, whole] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [name, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const offset = view.getUint32(at + 42, true);
    const path = text.decode(new Uint8Array(view.buffer, view.byteOffset + at + 46, name)).replaceAll("\\", "/");
    if (!path.endsWith("/")) items.push({ path, size: whole, read: () => unpack(file, { path, flags, method, packed, offset }) });
    at += 46 + name + extra + comment;
  }
  return items;
}

async function unpack(file, { path, flags, method, packed, offset }) {
  if (flags & 1) throw new Error(`${path}: encrypted; pack the zip without a password`);
  if (method !== 0 && method !== 8) throw new Error(`${path}: packed in a way that browsers cannot read; pack an ordinary zip`);
  const head = new DataView(await file.slice(offset, offset + 30).arrayBuffer());
  const begin = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const blob = file.slice(begin, begin + packed);
  const content = method === 0 ? blob : await new Response(blob.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
  return new File([content], path.split("/").pop());
}
