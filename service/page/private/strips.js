// The strips of a TIFF unpacked: LZW (TIFF 6.0, section 13), PackBits (section 9) and deflate.

const CLEAR = 256;
const END = 257;
const FIRST = 258; // code that stands for several bytes
const MAX_CODES = 4096;

/** Return `size` bytes of data that are compressed as `compression` says; throws a RangeError where there are fewer. */
export async function unpack(data, compression, size) {
  if (compression === 5) return unpackLzw(data, size);
  if (compression === 32773) return unpackBits(data, size);
  if (compression !== 1) return inflate(data, size);
  if (data.length < size) throw new RangeError(`${data.length} of ${size} bytes`);
  return data.subarray(0, size);
}

/** Return the first `size` bytes of zlib data. */
export async function inflate(data, size) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const bytes = new Uint8Array(size);
  let filled = 0;
  while (filled < size) {
    const { done, value } = await reader.read();
    if (done) throw new RangeError(`${filled} of ${size} bytes`);
    bytes.set(value.subarray(0, size - filled), filled);
    filled += value.length;
  }
  // What follows is of no use, and may be more than the file says.
  reader.cancel().catch(() => {});
  return bytes;
}

function unpackBits(data, size) {
  const bytes = new Uint8Array(size);
  let [at, filled] = [0, 0];
  while (filled < size) {
    if (at + 1 >= data.length) throw new RangeError(`${filled} of ${size} bytes`);
    const head = data[at++];
    if (head === 128) continue;
    const count = Math.min(head < 128 ? head + 1 : 257 - head, size - filled);
    if (head > 128) {
      bytes.fill(data[at++], filled, filled + count);
    } else {
      if (at + count > data.length) throw new RangeError(`${filled} of ${size} bytes`);
      bytes.set(data.subarray(at, at + count), filled);
      at += count;
    }
    filled += count;
  }
  return bytes;
}

// A stream of codes, the most significant bit first.
class Codes {
  constructor(data) {
    Object.assign(this, { data, at: 0, bits: 0, held: 0 });
  }

  /** Return the next code of `width` bits; END where there is none. */
  next(width) {
    while (this.bits < width) {
      if (this.at >= this.data.length) return END;
      this.held = ((this.held << 8) | this.data[this.at++]) & 0xffffff;
      this.bits += 8;
    }
    this.bits -= width;
    return (this.held >>> this.bits) & ((1 << width) - 1);
  }
}

// What codes stand for: bytes that were written before, as where they start and how many they are.
class Table {
  constructor() {
    [this.starts, this.lengths] = [new Uint32Array(MAX_CODES), new Uint32Array(MAX_CODES)];
    this.clear();
  }

  clear() {
    [this.next, this.width, this.before] = [FIRST, 9, -1];
  }

  /** Take in that bytes follow from `begin` on: the newest code is what came before, and the first of them. */
  extend(begin) {
    if (this.before >= 0 && this.next < MAX_CODES) {
      [this.starts[this.next], this.lengths[this.next]] = [this.before, begin - this.before + 1];
      this.next++;
    }
    this.before = begin;
    // One earlier than necessary, as all TIFFs have it.
    if (this.next + 1 >= 1 << this.width && this.width < 12) this.width++;
  }
}

function unpackLzw(data, size) {
  if (data[0] === 0 && data[1] & 1) throw new RangeError("LZW of before TIFF 6.0");
  const [bytes, codes, table] = [new Uint8Array(size), new Codes(data), new Table()];
  let filled = 0;
  while (filled < size) {
    const code = codes.next(table.width);
    if (code === END) throw new RangeError(`${filled} of ${size} bytes`);
    if (code === CLEAR) {
      table.clear();
      continue;
    }
    // Before the code is looked up, which may be the new one.
    table.extend(filled);
    if (code >= table.next) throw new RangeError(`a code ${code} that was not defined`);
    const [start, length] = [table.starts[code], code < CLEAR ? 1 : table.lengths[code]];
    for (let i = 0; i < length && filled < size; i++) bytes[filled++] = code < CLEAR ? code : bytes[start + i];
  }
  return bytes;
}
