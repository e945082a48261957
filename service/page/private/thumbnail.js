// Pictures of cells for people: PNGs in base64, as service/inference/thumbnails.py draws them.

import { crc32 } from "./crc32.js";

const [LOW, HIGH] = [0.002, 0.998];
const MAX_BLOCK = 0xffff;
const ADLER = 65521;

/** Return (height, width) pixels as an 8-bit PNG in base64, stretched to their own range. */
export function thumbnail(pixels, height, width) {
  const sorted = pixels.slice().sort();
  const low = quantile(sorted, LOW);
  const scale = 255 / Math.max(quantile(sorted, HIGH) - low, 1);
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      rows[y * (width + 1) + 1 + x] = Math.min(255, Math.max(0, (pixels[y * width + x] - low) * scale));
    }
  }
  return toBase64(encode(rows, height, width));
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

// Stored, not compressed: these pictures never leave the page.
function encode(rows, height, width) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8;
  const parts = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", header),
    chunk("IDAT", zlib(rows)),
    chunk("IEND", new Uint8Array()),
  ];
  return join(parts);
}

function zlib(bytes) {
  const parts = [Uint8Array.of(0x78, 0x01)];
  for (let at = 0; at < bytes.length; at += MAX_BLOCK) {
    const block = bytes.subarray(at, at + MAX_BLOCK);
    const [size, isLast] = [block.length, at + MAX_BLOCK >= bytes.length];
    parts.push(Uint8Array.of(isLast ? 1 : 0, size & 255, size >> 8, ~size & 255, (~size >> 8) & 255), block);
  }
  let [one, two] = [1, 0];
  for (const byte of bytes) {
    one = (one + byte) % ADLER;
    two = (two + one) % ADLER;
  }
  return join([...parts, Uint8Array.of(two >> 8, two & 255, one >> 8, one & 255)]);
}

function chunk(kind, content) {
  const whole = new Uint8Array(content.length + 12);
  const view = new DataView(whole.buffer);
  view.setUint32(0, content.length);
  whole.set(
    [...kind].map((letter) => letter.charCodeAt(0)),
    4,
  );
  whole.set(content, 8);
  view.setUint32(8 + content.length, crc32(whole.subarray(4, 8 + content.length)));
  return whole;
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
