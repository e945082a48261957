// Decode files into the pixels of cells and place them on the canvas of a model, as images.py and crops.py of
// fatescope/data do.

import { plural } from "../format.js";
import * as bmp from "./bmp.js";
import { ImageError, unsupported } from "./image-error.js";
import * as png from "./png.js";
import * as tiff from "./tiff.js";

export const MIN_SIDE = 8;
export const MAX_PIXELS = 1_000_000;
const FRAME = 2; // px of the border that count as background
const FORMATS = [tiff, png, bmp];

/**
 * Decode every page of a file into { header, pixels } with (height, width) pixels, or { error }, an ImageError.
 * Throws an ImageError for a file that is no image.
 */
export async function decodePages(bytes, name) {
  if (!bytes.length) throw new ImageError("empty", `${name}: the file is empty; export it again`);
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) throw unsupported(name, "a JPEG");
  const format = FORMATS.find((one) => one.matches(bytes));
  if (!format) throw new ImageError("not_an_image", `${name}: not an image; expected TIFF, PNG or BMP of 8 to 16 bit`);
  const pages = [];
  for (const header of format.readHeaders(bytes, name)) {
    try {
      checkHeader(header, name);
      pages.push({ header, pixels: asGrey(await format.decodePage(bytes, header, name), header, name) });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      pages.push({ error });
    }
  }
  return pages;
}

/** Throw an ImageError where a header announces what is not read as a cell. */
export function checkHeader({ height, width, samples, bitDepth }, name) {
  const size = `${height}x${width} px (height x width)`;
  if (Math.min(height, width) < MIN_SIDE) {
    throw new ImageError(
      "too_small",
      `${name}: ${size}, but a cell needs ${MIN_SIDE} px on each side; export whole crops`,
    );
  }
  if (height * width > MAX_PIXELS) {
    throw new ImageError(
      "too_large",
      `${name}: ${size}, but an image may have at most ${MAX_PIXELS} px; export one cell per file`,
    );
  }
  if (samples < 1 || samples > 4) {
    throw new ImageError("channels", `${name}: ${samples} channels where 1 was expected; export one channel per file`);
  }
  if (bitDepth < 8 || bitDepth > 16) {
    throw new ImageError("bit_depth", `${name}: ${plural(bitDepth, "bit")} per pixel; expected 8 to 16`);
  }
}

function asGrey({ pixels, samples, height, width }, { bitDepth, orientation }, name) {
  let grey = pixels;
  if (samples > 1) {
    const colours = samples === 2 ? 1 : 3;
    grey = new pixels.constructor(height * width);
    for (let i = 0; i < grey.length; i++) {
      grey[i] = pixels[i * samples];
      for (let k = 1; k < colours; k++) {
        if (pixels[i * samples + k] !== grey[i]) {
          throw new ImageError(
            "channels",
            `${name}: a colour image where 1 channel was expected; export one channel per file`,
          );
        }
      }
    }
    if (samples !== colours) checkOpaque(pixels, samples, bitDepth, name);
  }
  return upright(grey, height, width, orientation);
}

// An alpha channel at its maximum everywhere says nothing.
function checkOpaque(pixels, samples, bitDepth, name) {
  const alpha = pixels.filter((_, i) => i % samples === samples - 1);
  const most = [2 ** bitDepth - 1, 2 ** (8 * pixels.BYTES_PER_ELEMENT) - 1];
  if (!most.some((value) => alpha.every((one) => one === value))) {
    throw new ImageError(
      "channels",
      `${name}: pixels that are transparent; export one channel per file, without transparency`,
    );
  }
}

/** Return stored (height, width) pixels upright; orientations that do not exist count as 1. */
function upright(pixels, height, width, orientation) {
  if (orientation < 2 || orientation > 8) return pixels;
  const isTurned = orientation >= 5;
  const [tall, wide] = isTurned ? [width, height] : [height, width];
  const [isUp, isLeft] = [[3, 4, 7, 8].includes(orientation), [2, 3, 6, 7].includes(orientation)];
  const turned = new pixels.constructor(pixels.length);
  for (let y = 0; y < tall; y++) {
    for (let x = 0; x < wide; x++) {
      const [row, column] = [isUp ? tall - 1 - y : y, isLeft ? wide - 1 - x : x];
      turned[y * wide + x] = isTurned ? pixels[column * width + row] : pixels[row * width + column];
    }
  }
  return turned;
}

/** Return the values of the border of (height, width) pixels that counts as background. */
export function borderOf(pixels, height, width) {
  const border = [];
  for (let y = 0; y < height; y++) {
    const isRim = y < FRAME || y >= height - FRAME;
    for (let x = 0; x < width; x += !isRim && x === FRAME - 1 ? width - 2 * FRAME + 1 : 1) {
      border.push(pixels[y * width + x]);
    }
  }
  return border;
}

/** Return the median of the border of (height, width) pixels, counts, rounded down. */
export function background(pixels, height, width) {
  const sorted = Uint16Array.from(borderOf(pixels, height, width)).sort();
  const half = sorted.length >> 1;
  return Math.floor((sorted[half - 1] + sorted[half]) / 2);
}

/** Place the central part of (height, width) pixels in the middle of a canvas, padded with their own background level. */
export function place(pixels, height, width, canvas, target) {
  const [top, left] = [height, width].map((side, i) => (side > canvas[i] ? (side - canvas[i]) >> 1 : 0));
  const [tall, wide] = [Math.min(height, canvas[0]), Math.min(width, canvas[1])];
  const cut = new Uint16Array(tall * wide);
  for (let y = 0; y < tall; y++) {
    const from = (top + y) * width + left;
    cut.set(pixels.subarray(from, from + wide), y * wide);
  }
  target.fill(background(cut, tall, wide));
  const [down, right] = [(canvas[0] - tall) >> 1, (canvas[1] - wide) >> 1];
  for (let y = 0; y < tall; y++) target.set(cut.subarray(y * wide, (y + 1) * wide), (down + y) * canvas[1] + right);
}
