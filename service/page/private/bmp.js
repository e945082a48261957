// BMP, uncompressed, of 8, 24 and 32 bits, as Pillow reads it for the service.

import { plural } from "../format.js";
import { ImageError, damaged, unsupported } from "./image-error.js";

const FILE_HEADER = 14;
const HEADERS = new Set([40, 52, 56, 64, 108, 124]); // sizes, bytes
const MAX_COLOURS = 256;
const DEPTHS = { 1: 1, 16: 5 }; // bits per pixel → those of a value, which are 8 for all others

export const matches = (bytes) => bytes[0] === 0x42 && bytes[1] === 0x4d;

/** Return the one header of a file. */
export function readHeaders(bytes, name) {
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = view.getUint32(14, true);
    if (!HEADERS.has(size)) throw unsupported(name, `a BMP whose header has ${plural(size, "byte")}`);
    const [width, tall, bits] = [view.getInt32(18, true), view.getInt32(22, true), view.getUint16(28, true)];
    if (width < 1 || tall === 0) throw new RangeError(`${width}x${tall} px`);
    const stored = {
      bits,
      compression: view.getUint32(30, true),
      start: view.getUint32(10, true),
      isUpward: tall > 0,
      palette: FILE_HEADER + size,
      colours: view.getUint32(46, true),
    };
    if (bits <= 8 && stored.colours > MAX_COLOURS) throw new RangeError(`a palette of ${stored.colours} colours`);
    return [
      {
        format: "BMP",
        height: Math.abs(tall),
        width,
        samples: bits <= 8 ? 1 : 3,
        bitDepth: DEPTHS[bits] ?? 8,
        orientation: 1,
        stored,
      },
    ];
  } catch (error) {
    throw error instanceof ImageError ? error : damaged(name, error.message);
  }
}

/** Return { pixels, samples, height, width } of the image. */
export async function decodePage(bytes, { height, width, stored }, name) {
  const { bits, compression, start, isUpward } = stored;
  if (compression !== 0) throw unsupported(name, "a compressed BMP");
  if (![8, 24, 32].includes(bits)) throw unsupported(name, `a BMP of ${plural(bits, "bit")} per pixel`);
  const step = bits / 8;
  const rowBytes = Math.ceil((width * step) / 4) * 4;
  if (start + rowBytes * height > bytes.length) throw damaged(name, "the file ends within its pixels");
  const pixels = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    const from = start + (isUpward ? height - 1 - y : y) * rowBytes;
    for (let x = 0; x < width; x++) {
      const at = bits === 8 ? paletteEntry(bytes, stored, bytes[from + x], name) : from + x * step;
      // Stored as blue, green and red.
      for (let colour = 0; colour < 3; colour++) pixels[3 * (y * width + x) + colour] = bytes[at + 2 - colour];
    }
  }
  return { pixels, samples: 3, height, width };
}

function paletteEntry(bytes, { palette, colours }, index, name) {
  const at = palette + 4 * index;
  if (index >= (colours || MAX_COLOURS) || at + 3 > bytes.length)
    throw damaged(name, `colour ${index} of a palette that has fewer`);
  return at;
}
