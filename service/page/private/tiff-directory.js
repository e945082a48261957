// The directories of a TIFF, classic or BigTIFF, as fatescope/data/formats/tiff_directory.py reads them.

export const TAG = {
  subfile: 254,
  oldSubfile: 255,
  width: 256,
  height: 257,
  bits: 258,
  compression: 259,
  photometric: 262,
  fillOrder: 266,
  description: 270,
  stripOffsets: 273,
  orientation: 274,
  samples: 277,
  rowsPerStrip: 278,
  stripSizes: 279,
  planar: 284,
  predictor: 317,
  palette: 320,
  tileWidth: 322,
  tileHeight: 323,
  subDirectories: 330,
  sampleFormat: 339,
  depth: 32997,
  amnisObjects: 33018,
  metamorphPlanes: 33629,
};

const { width, height, bits, samples, compression, photometric, planar, depth, palette } = TAG;
// What decides how the pixels are understood.
const STRICT = new Set([width, height, bits, samples, compression, photometric, planar, depth, palette]);
const LISTS = new Set([TAG.subDirectories, TAG.stripOffsets, TAG.stripSizes, palette, TAG.metamorphPlanes]);
const WANTED = new Set(Object.values(TAG));
const SIZES = { 1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8 }; // type → bytes
const DOUBLE = 12;
const MAX_ENTRIES = 0xffff;
const MAX_DESCRIPTION = 100_000;
const MAX_VALUES = 100_000; // of a list
const MAX_PAGES = 100_000;

/** Return { little, big } of a file that starts like a TIFF, null for others. */
export function layoutOf(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 4));
  return {
    "II*\0": { little: true, big: false },
    "MM\0*": { little: false, big: false },
    "II+\0": { little: true, big: true },
    "MM\0+": { little: false, big: true },
  }[start];
}

class Reader {
  constructor(bytes, layout) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    Object.assign(this, { bytes, ...layout });
  }

  pointer(at) {
    return this.big ? this.value(at, 16) : this.value(at, 4);
  }

  value(at, kind) {
    const size = SIZES[kind];
    if (size === 1) return this.view.getUint8(at);
    if (size === 2) return this.view.getUint16(at, this.little);
    if (size === 4) return this.view.getUint32(at, this.little);
    return Number(this.view.getBigUint64(at, this.little));
  }

  text(start, length) {
    const bytes = this.bytes.subarray(start, start + Math.min(length, MAX_DESCRIPTION));
    return new TextDecoder("latin1").decode(bytes);
  }
}

/** One directory: `numbers`, tag → first value, `entries`, tag → where all values are, and `descriptions`. */
export class Directory {
  constructor(reader) {
    Object.assign(this, { reader, entries: new Map(), numbers: new Map(), descriptions: [] });
  }

  number(tag, otherwise) {
    return this.numbers.get(tag) ?? otherwise;
  }

  /** Return all values of a tag; throws a RangeError where the file ends before them. */
  values(tag) {
    const entry = this.entries.get(tag);
    if (!entry || !SIZES[entry.kind]) return [];
    if (entry.total > MAX_VALUES) throw new RangeError(`its tag ${tag} has ${entry.total} values`);
    const at = (i) => this.reader.value(entry.start + i * SIZES[entry.kind], entry.kind);
    return Array.from({ length: entry.total }, (_, i) => at(i));
  }

  /** Return whether this is a thumbnail of another image, or a mask. */
  get isCopy() {
    const reducedOrMask = (this.number(TAG.subfile, 0) & 0b101) !== 0 || this.number(TAG.oldSubfile) === 2;
    return reducedOrMask || this.number(TAG.photometric) === 4;
  }
}

/** Yield the directories that follow each other; throws an Error that says what is wrong with damaged ones. */
export function* readChain(bytes, layout) {
  const reader = new Reader(bytes, layout);
  const visited = new Set();
  let offset = reader.pointer(layout.big ? 8 : 4);
  while (offset) {
    if (visited.has(offset)) throw new RangeError("its directories form a cycle");
    if (visited.size >= MAX_PAGES) throw new RangeError(`it has more than ${MAX_PAGES} pages`);
    visited.add(offset);
    const { directory, next } = readDirectory(reader, offset);
    yield directory;
    offset = next;
  }
}

function readDirectory(reader, offset) {
  const { big } = reader;
  const count = reader.value(offset, big ? 16 : 3);
  if (count > MAX_ENTRIES) throw new RangeError(`a directory announces ${count} entries`);
  const [start, step] = [offset + (big ? 8 : 2), big ? 20 : 12];
  const directory = new Directory(reader);
  for (let at = start; at < start + count * step; at += step) readEntry(directory, at);
  return { directory, next: reader.pointer(start + count * step) };
}

function readEntry(directory, at) {
  const { reader, numbers, entries, descriptions } = directory;
  const [tag, kind, total] = [reader.value(at, 3), reader.value(at + 2, 3), reader.pointer(at + 4)];
  if (!WANTED.has(tag)) return;
  const strictTypes = reader.big ? [3, 4, 16] : [3, 4];
  if (STRICT.has(tag) && (!strictTypes.includes(kind) || numbers.has(tag) || !total)) {
    throw new RangeError(`its tag ${tag} is given twice, is empty, or is of type ${kind}`);
  }
  const start = placeOf(reader, at, kind, total);
  if (tag === TAG.description) {
    descriptions.push(reader.text(start, total));
    return;
  }
  if (LISTS.has(tag)) entries.set(tag, { kind, total, start });
  if (SIZES[kind] && total) numbers.set(tag, reader.value(start, kind));
}

// Where the values of an entry are: in it, where they fit.
function placeOf(reader, at, kind, total) {
  const [head, room] = reader.big ? [12, 8] : [8, 4];
  const size = SIZES[kind] ?? (kind === DOUBLE ? 8 : 1);
  return total * size <= room ? at + head : reader.pointer(at + head);
}

/** Return the orientation in Exif data, which has the form of a TIFF; 1 where it has none or is damaged. */
export function readOrientation(exif) {
  const layout = layoutOf(exif);
  try {
    return layout ? readChain(exif, layout).next().value.number(TAG.orientation, 1) : 1;
  } catch {
    return 1;
  }
}
