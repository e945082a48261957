// PNG of 8 and 16 bits, as fatescope/data/formats/png.py reads it. Interlaced images are left to the service.

import { ImageError, damaged, unsupported } from "./image-error.js";
import { crc32 } from "./crc32.js";
import { inflate } from "./strips.js";
import { toUint16 } from "./tiff.js";
import { readOrientation } from "./tiff-directory.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES = { 0: 1, 2: 3, 3: 3, 4: 2, 6: 4 }; // colour type → values per pixel
const PALETTE = 3;
const ESSENTIAL = new Set(["IHDR", "PLTE", "tRNS", "IDAT"]);

export const matches = (bytes) => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** Return the one header of a file. */
export function readHeaders(bytes, name) {
  try {
    return [readHeader(bytes, name)];
  } catch (error) {
    throw error instanceof ImageError ? error : damaged(name, error.message);
  }
}

function readHeader(bytes, name) {
  const view = viewOf(bytes);
  let [orientation, header] = [1, null];
  for (const { kind, start, length } of chunksOf(bytes)) {
    if (!header) {
      const [width, height, bits, colour] = [
        view.getUint32(start),
        view.getUint32(start + 4),
        bytes[start + 8],
        bytes[start + 9],
      ];
      if (kind !== "IHDR" || !(colour in SAMPLES)) throw new RangeError(`its first chunk is ${kind}`);
      header = { height, width, bits, colour, interlaced: bytes[start + 12] !== 0 };
    }
    if (kind === "acTL" && view.getUint32(start) > 1) {
      throw new ImageError("pages", `${name}: an animation; export one image per file`);
    }
    if (kind === "eXIf") orientation = readOrientation(bytes.subarray(start, start + length));
    if (kind === "IDAT") break;
  }
  const { height, width, bits, colour } = header;
  const isTurned = orientation >= 5 && orientation <= 8;
  const size = isTurned ? { height: width, width: height } : { height, width };
  // The colours of a palette have 8 bits, whatever its indices have.
  const bitDepth = colour === PALETTE ? 8 : bits;
  return { format: "PNG", ...size, samples: SAMPLES[colour], bitDepth, orientation, stored: header };
}

/** Return { pixels, samples, height, width } of the image, as stored. */
export async function decodePage(bytes, { stored }, name) {
  if (stored.interlaced) throw unsupported(name, "an interlaced PNG");
  try {
    const { palette, transparent, data } = essenceOf(bytes);
    const { height, width, bits, colour } = stored;
    const samples = colour === PALETTE ? 1 : SAMPLES[colour];
    const rowBytes = Math.ceil((width * samples * bits) / 8);
    const rows = await inflate(data, (rowBytes + 1) * height);
    const raw = undoFilters(rows, height, rowBytes, Math.max(1, (samples * bits) >> 3));
    if (colour === PALETTE)
      return { pixels: applyPalette(raw, stored, palette, transparent), samples: 4, height, width };
    const pixels = bits === 16 ? toUint16(raw, false) : raw;
    if (transparent) checkOpaque(pixels, samples, transparent, bits, name);
    return { pixels, samples, height, width };
  } catch (error) {
    throw error instanceof ImageError ? error : damaged(name, error.message);
  }
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function* chunksOf(bytes) {
  const view = viewOf(bytes);
  for (let at = SIGNATURE.length; at < bytes.length;) {
    const length = view.getUint32(at);
    yield {
      kind: String.fromCharCode(view.getUint8(at + 4), bytes[at + 5], bytes[at + 6], bytes[at + 7]),
      start: at + 8,
      length,
    };
    at += length + 12;
  }
}

// What the pixels need, whose checksums hold.
function essenceOf(bytes) {
  const [view, parts] = [viewOf(bytes), []];
  const found = { palette: null, transparent: null };
  for (const { kind, start, length } of chunksOf(bytes)) {
    if (kind === "IEND") break;
    if (!ESSENTIAL.has(kind)) continue;
    const end = start + length;
    if (view.getUint32(end) !== crc32(bytes.subarray(start - 4, end)))
      throw new RangeError(`the checksum of a chunk ${kind} is wrong`);
    const content = bytes.subarray(start, end);
    if (kind === "PLTE") found.palette = content;
    if (kind === "tRNS") found.transparent = content;
    if (kind === "IDAT") parts.push(content);
  }
  return { ...found, data: new Blob(parts) };
}

function undoFilters(rows, height, rowBytes, step) {
  const raw = new Uint8Array(rowBytes * height);
  for (let y = 0; y < height; y++) {
    const [filter, from, to] = [rows[y * (rowBytes + 1)], y * (rowBytes + 1) + 1, y * rowBytes];
    if (filter > 4) throw new RangeError(`a row of filter ${filter}`);
    for (let x = 0; x < rowBytes; x++) {
      const left = x >= step ? raw[to + x - step] : 0;
      const above = y ? raw[to + x - rowBytes] : 0;
      const corner = x >= step && y ? raw[to + x - rowBytes - step] : 0;
      raw[to + x] = rows[from + x] + predicted(filter, left, above, corner);
    }
  }
  return raw;
}

function predicted(filter, left, above, corner) {
  if (filter < 2) return filter ? left : 0;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const sum = left + above - corner;
  const [toLeft, toAbove, toCorner] = [Math.abs(sum - left), Math.abs(sum - above), Math.abs(sum - corner)];
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

function applyPalette(raw, { height, width, bits }, palette, transparent) {
  if (!palette) throw new RangeError("its palette is missing");
  const [pixels, rowBytes] = [new Uint8Array(height * width * 4), Math.ceil((width * bits) / 8)];
  for (let i = 0; i < height * width; i++) {
    const [y, x] = [Math.floor(i / width), i % width];
    const byte = raw[y * rowBytes + ((x * bits) >> 3)];
    const index = (byte >> (8 - bits - ((x * bits) & 7))) & (2 ** bits - 1);
    if (3 * index >= palette.length) throw new RangeError(`colour ${index} of a palette that has fewer`);
    pixels.set(palette.subarray(3 * index, 3 * index + 3), 4 * i);
    pixels[4 * i + 3] = transparent?.[index] ?? 255;
  }
  return pixels;
}

// The one value that counts as transparent must not occur.
function checkOpaque(pixels, samples, transparent, bits, name) {
  const value = Array.from(
    { length: samples },
    (_, i) => ((transparent[2 * i] << 8) | transparent[2 * i + 1]) & (2 ** bits - 1),
  );
  for (let i = 0; i < pixels.length; i += samples) {
    if (value.every((one, k) => pixels[i + k] === one)) {
      throw new ImageError(
        "channels",
        `${name}: pixels that are transparent; export one channel per file, without transparency`,
      );
    }
  }
}
