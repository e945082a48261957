// Read a zip in the browser, so that the page can list its files before anything is sent, and send them in chunks.
// Format: APPNOTE.TXT of PKWARE, sections 4.3.7 (local file header), 4.3.12 (central directory), 4.3.16 (its end).

const END = { signature: 0x06054b50, size: 22, maxComment: 0xffff };
const ENTRY = { signature: 0x02014b50, size: 46 };
const LOCAL_HEADER_SIZE = 30;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;

/**
 * Return the files of a zip as items { path, size, read() }; `read` unpacks one.
 * Throws an Error that says what to do where the zip cannot be read.
 */
export async function readZip(file) {
  const { count, size, start } = await findDirectory(file);
  const view = new DataView(await file.slice(start, start + size).arrayBuffer());
  const items = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY.size > view.byteLength || view.getUint32(at, true) !== ENTRY.signature) {
      throw new Error("the zip is damaged; create it again");
    }
    const entry = parseEntry(view, at);
    if (!entry.path.endsWith("/")) {
      items.push({ path: entry.path, size: entry.size, read: () => unpack(file, entry) });
    }
    at += entry.length;
  }
  return items;
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
  return { count, size, start };
}

function parseEntry(view, at) {
  const uint16 = (offset) => view.getUint16(at + offset, true);
  const uint32 = (offset) => view.getUint32(at + offset, true);
  const name = new Uint8Array(view.buffer, view.byteOffset + at + ENTRY.size, uint16(28));
  return {
    path: new TextDecoder().decode(name).replaceAll("\\", "/"),
    flags: uint16(8),
    method: uint16(10),
    packedSize: uint32(20),
    size: uint32(24),
    offset: uint32(42),
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
