// The directories of a native file, as fatescope/data/native/directories.py reads them: offsets wrap above 4 GiB.

import { agree, plural } from "../format.js";

export const TAG = {
  width: 256,
  height: 257,
  compression: 259,
  stripOffset: 273,
  stripSize: 279,
  kind: 33002,
  object: 33003,
  objects: 33018,
  acquisition: 33027,
};
export const KIND = { header: 1, image: 2, mask: 3 };
export const IMAGES_COMPRESSED = 30817;

const MASKS_COMPRESSED = 30818;
const WRAP = 2 ** 32;
const MAX_ENTRIES = 512;
const SIZES = { 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8 };
const ENTRY = 12;
const WINDOW = 4_000_000;

/** The bytes of a file, a Blob, of which a window is held. */
export class Source {
  constructor(blob) {
    Object.assign(this, { blob, start: 0, bytes: new Uint8Array() });
  }

  /** Return `size` bytes at `offset`; throws a RangeError beyond the end of the file. */
  async read(offset, size) {
    if (offset + size > this.blob.size) {
      throw new RangeError(`${plural(size, "byte")} at ${offset} ${agree(size, "is", "are")} not in the file`);
    }
    if (offset < this.start || offset + size > this.start + this.bytes.length) {
      const window = this.blob.slice(offset, offset + Math.max(size, WINDOW));
      [this.start, this.bytes] = [offset, new Uint8Array(await window.arrayBuffer())];
    }
    return this.bytes.subarray(offset - this.start, offset - this.start + size);
  }
}

/** Return the directory at `offset`; throws a RangeError where there is none. */
export async function readDirectory(source, offset) {
  const head = await source.read(offset, 2);
  const entries = head[0] | (head[1] << 8);
  if (!entries || entries > MAX_ENTRIES)
    throw new RangeError(`what should be a directory at ${offset} has ${entries} entries`);
  return new Directory(source, offset, (await source.read(offset + 2, ENTRY * entries + 4)).slice());
}

class Directory {
  constructor(source, offset, raw) {
    const view = new DataView(raw.buffer);
    Object.assign(this, { source, offset, stop: offset + 2 + raw.length, entries: new Map() });
    this.following = view.getUint32(raw.length - 4, true);
    for (let at = 0; at < raw.length - 4; at += ENTRY) {
      const tag = view.getUint16(at, true);
      const [code, count, value] = [
        view.getUint16(at + 2, true),
        view.getUint32(at + 4, true),
        view.getUint32(at + 8, true),
      ];
      // The first of two entries of a tag counts.
      if (!this.entries.has(tag)) this.entries.set(tag, { code, count, value });
    }
    const ofCompression = { [IMAGES_COMPRESSED]: KIND.image, [MASKS_COMPRESSED]: KIND.mask };
    this.kind = this.number(TAG.kind) ?? ofCompression[this.number(TAG.compression)] ?? 0;
  }

  /** Return the first value of a tag that holds whole numbers, undefined where there is none. */
  number(tag) {
    const { code, count, value } = this.entries.get(tag) ?? {};
    if (!count || ![1, 3, 4].includes(code) || count * SIZES[code] > 4) return undefined;
    return code === 4 ? value : value & (code === 3 ? 0xffff : 0xff);
  }

  /** Return the first value of a tag; throws a RangeError where there is none. */
  needed(tag) {
    const number = this.number(tag);
    if (number === undefined) throw new RangeError(`its tag ${tag} is missing or of another type`);
    return number;
  }

  /** Return the bytes of a tag; throws a RangeError where there are more than `longest`. */
  async raw(tag, longest) {
    const { code, count = 0, value } = this.entries.get(tag) ?? {};
    const size = count * (SIZES[code] ?? 1);
    if (size > longest) throw new RangeError(`its tag ${tag} announces ${size} bytes`);
    return size > 4 ? this.source.read(this.nearest(value), size) : new Uint8Array();
  }

  /** Return the place that an offset modulo 4 GiB means: the one that is nearest to this directory. */
  nearest(offset) {
    return offset + Math.max(0, Math.floor((this.offset - offset + WRAP / 2) / WRAP)) * WRAP;
  }

  /** Return where the last byte ends that this directory refers to; there a program writes the next one. */
  get end() {
    let last = this.stop;
    for (const [tag, { code, count, value }] of this.entries) {
      const size = count * (SIZES[code] ?? 1);
      if (size > 4) last = Math.max(last, this.nearest(value) + size);
      else if (tag === TAG.stripOffset) last = Math.max(last, this.nearest(value) + (this.number(TAG.stripSize) ?? 0));
    }
    return last;
  }
}

/** Return the first directory of a file; throws a RangeError where the file is no native one. */
export async function readFirst(source) {
  const head = await source.read(0, 8);
  if (String.fromCharCode(...head.subarray(0, 4)) !== "II*\0") throw new RangeError("it is no such file");
  const header = await readDirectory(source, new DataView(head.slice().buffer).getUint32(4, true));
  if (header.kind !== KIND.header && !header.entries.has(TAG.objects))
    throw new RangeError("its first directory is no header");
  return header;
}

/**
 * Return the directory that follows, null after the last one. Where the pointer to it is damaged, it is sought behind all that
 * the one before refers to; `expected` says that there is one. Throws a RangeError where it cannot be found.
 */
export async function readNext(directory, expected) {
  const { following, stop, end, source } = directory;
  if (!following && !expected) return null;
  // The next turn where the pointer has wrapped.
  const turns = Math.max(0, Math.ceil((stop - following) / WRAP));
  for (const place of following ? [following + turns * WRAP, end] : [end]) {
    try {
      const found = await readDirectory(source, place);
      if (place >= stop && (found.kind === KIND.image || found.kind === KIND.mask)) return found;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new RangeError("the chain of directories ends too early");
}
