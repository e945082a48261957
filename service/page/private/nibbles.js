// The compression 30817 of native files, as fatescope/data/native/compression.py describes it: numbers in groups of three bits,
// which are second differences of the pixels.

const MAX_NIBBLES = 10;
const MORE = 8;

/**
 * Return some columns of an image of (height, width) pixels: for each of `starts`, `each` columns as (height, each) pixels.
 * Throws a RangeError for a stream that ends too early, or gives pixels that are no 16-bit counts.
 */
export function decodeImage(stream, height, width, starts, each) {
  const blocks = starts.map(() => new Uint16Array(height * each));
  const [sums, row] = [new Int32Array(width), new Int32Array(width)];
  const numbers = new Numbers(stream);
  for (let y = 0; y < height; y++) {
    let value = 0;
    for (let x = 0; x < width; x++) {
      sums[x] += numbers.next();
      value += sums[x];
      row[x] = value;
    }
    for (const [i, start] of starts.entries()) {
      const columns = row.subarray(start, start + each);
      if (columns.some((pixel) => pixel < 0 || pixel > 0xffff))
        throw new RangeError("pixels that are no 16-bit counts");
      blocks[i].set(columns, y * each);
    }
  }
  return blocks;
}

class Numbers {
  constructor(stream) {
    Object.assign(this, { stream, at: 0 });
  }

  next() {
    let value = 0;
    for (let group = 0; group < MAX_NIBBLES; group++) {
      // The low nibble of a byte comes first.
      const byte = this.stream[this.at >> 1];
      if (byte === undefined) throw new RangeError("the compressed data end too early");
      const nibble = this.at++ & 1 ? byte >> 4 : byte & 15;
      if (nibble & MORE) value |= (nibble & 7) << (3 * group);
      else return value + ((nibble & 3) - (nibble & 4)) * 8 ** group;
    }
    throw new RangeError(`a number of more than ${MAX_NIBBLES} nibbles`);
  }
}
