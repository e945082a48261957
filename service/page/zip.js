// Read a zip in the browser, so that the page can list its files before anything is sent, and send them in chunks.
// What may be read of it is decided as in fatescope/data/archives.py. Format: APPNOTE.TXT of PKWARE, sections 4.3.7 (local file header), 4.3.12 (central directory), 4.3.16 (its end).

import { decodePath } from "./zip-names.js";

const END = { signature: 0x06054b50, size: 22, maxComment: 0xffff };
const ENTRY = { signature: 0x02014b50, size: 46 };
const LOCAL_HEADER_SIZE = 30;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const FOLDER = 0x10; // attribute of DOS
const [FILE_TYPE, LINK] = [0o170000, 0o120000]; // attributes of Unix

/**
 * Return the files of a zip as items { path, size, problem, read() }; `read` unpacks one, `problem` says why it must
 * not be read. Throws an Error that says what to do where the zip cannot be read.
 */
export async function readZip(file) {
  const { count, size, start, shift } = await findDirectory(file);
  const view = new DataView(await file.slice(start, start + size).arrayBuffer());
  const items = new Map();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY.size > view.byteLength || view.getUint32(at, true) !== ENTRY.signature) {
      throw new Error("the zip is damaged; create it again");
    }
    const entry = parseEntry(view, at, shift);
    at += entry.length;
    if (entry.isFolder) continue;
    const { path } = entry;
    const problem = items.has(path) ? `the zip holds it twice; export it again` : problemOf(entry);
    items.set(path, { path, size: entry.size, problem, read: () => unpack(file, entry) });
  }
  return [...items.values()];
}

function problemOf({ path, flags, isLink }) {
  if (path.startsWith("/") || path.split("/").includes("..") || /^[^/]:/.test(path)) {
    return "leads out of the zip; do not use this file";
  }
  if (isLink) return "a link, which may lead out of the zip; pack the file itself";
  if (flags & ENCRYPTED) return "encrypted; create the zip without a password";
  if (/\.zip$/i.test(path)) return "a zip in a zip; unpack it first";
  return "";
}

async function findDirectory(file) {
  const tailSize = END.size + END.maxComment;
  const tail = new DataView(await file.slice(Math.max(0, file.size - tailSize)).arrayBuffer());
  let end = tail.byteLength - END.size;
  while (end >= 0 && tail.getUint32(end, true) !== END.signature) end--;
  if (end < 0) throw new Error("this zip cannot be opened; create it again or drop the folder itself");
  const count = tail.getUint16(end + 10, true);
  const size = tail.getUint32(end + 12, true);
  const start = tail.getUint32(end + 16, true);
  // Values that mean "see the ZIP64 record", which is not read here.
  if (count === 0xffff || start === 0xffffffff) {
    throw new Error("a zip of more than 65,534 files or 4 GB cannot be read; drop the folder itself");
  }
  // Other bytes may come before the zip, as in one that unpacks itself: all its offsets then are too small.
  const shift = file.size - tail.byteLength + end - size - start;
  if (shift < 0) throw new Error("the zip is damaged; create it again");
  return { count, size, start: start + shift, shift };
}

function parseEntry(view, at, shift) {
  const uint16 = (offset) => view.getUint16(at + offset, true);
  const uint32 = (offset) => view.getUint32(at + offset, true);
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at + ENTRY.size);
  const [flags, attributes] = [uint16(8), uint32(38)];
  const path = decodePath(bytes.subarray(0, uint16(28)), flags, bytes.subarray(uint16(28), uint16(28) + uint16(30)));
  return {
    path: path.replaceAll(/\/(?:\.?\/)+/g, "/").replace(/^(?:\.\/)+/, ""),
    isFolder: path.endsWith("/") || (uint32(24) === 0 && (attributes & FOLDER) !== 0),
    isLink: ((attributes >>> 16) & FILE_TYPE) === LINK,
    flags,
    method: uint16(10),
    packedSize: uint32(20),
    size: uint32(24),
    offset: uint32(42) + shift,
    length: ENTRY.size + uint16(28) + uint16(30) + uint16(32), // of the entry, with its name, extra field and comment
  };
}

async function unpack(file, { path, flags, method, packedSize, offset }) {
  if (flags & ENCRYPTED) throw new Error(`${path}: encrypted; create the zip without a password`);
  if (method !== STORED && method !== DEFLATED) {
    throw new Error(`${path}: compressed in a way that browsers cannot read; create an ordinary zip`);
  }
  const header = new DataView(await file.slice(offset, offset + LOCAL_HEADER_SIZE).arrayBuffer());
  const begin = offset + LOCAL_HEADER_SIZE + header.getUint16(26, true) + header.getUint16(28, true);
  const packed = file.slice(begin, begin + packedSize);
  const content = method === STORED ? packed : await inflate(packed);
  return new File([content], path.split("/").pop());
}

const inflate = (blob) => new Response(blob.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
