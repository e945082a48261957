// Grey levels from the values that a TIFF stores, as fatescope/data/formats/tiff_levels.py has them.

import { plural } from "../format.js";
import { ImageError, damaged, unsupported } from "./image-error.js";
import { TAG } from "./tiff-directory.js";

const [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR] = [0, 1, 2, 3, 6];

const isPalette = (directory) => directory.number(TAG.photometric) === PALETTE;

/** Return the bits that the colours of a palette are meant in, undefined for pages without one. */
export const paletteDepth = (directory, name) => (isPalette(directory) ? readPalette(directory, name).bits : undefined);

// A palette has 16 bits. Where each colour is an 8-bit one, scaled in one of the usual ways or not at all, it counts as such.
function readPalette(directory, name) {
  const bits = directory.number(TAG.bits, 1);
  const entry = directory.entries.get(TAG.palette);
  if (bits > 16 || entry?.total !== 3 * 2 ** bits || entry.kind !== 3 || directory.number(TAG.samples, 1) !== 1) {
    throw damaged(name, `a palette that does not fit pixels of ${plural(bits, "bit")}`);
  }
  let values;
  try {
    values = Uint16Array.from(directory.values(TAG.palette));
  } catch (error) {
    throw bits > 8 ? unsupported(name, "a palette of more than 256 colours") : damaged(name, error.message);
  }
  if (values.every((value) => value % 257 === 0)) return { values: values.map((value) => value / 257), bits: 8 };
  if (values.every((value) => (value & 0xff) === 0)) return { values: values.map((value) => value >> 8), bits: 8 };
  return { values, bits: values.every((value) => value < 256) ? 8 : 16 };
}

/** Throw an ImageError for a page whose values are not grey levels or cannot be told to be. */
export function checkLevels(directory, bitDepth, name) {
  const photometric = directory.number(TAG.photometric);
  if (![undefined, WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR].includes(photometric)) {
    throw new ImageError(
      "channels",
      `${name}: PhotometricInterpretation ${photometric} where grey levels were expected; export it as greyscale`,
    );
  }
  if (photometric === YCBCR) throw unsupported(name, "colours as YCbCr");
  if (photometric === WHITE_IS_ZERO && bitDepth !== directory.number(TAG.bits, 1)) {
    throw new ImageError(
      "bit_depth",
      `${name}: white is zero, but it cannot be told which value is black; export it with black as zero`,
    );
  }
  if (directory.number(TAG.depth, 1) !== 1) {
    throw new ImageError("pages", `${name}: a volume of several slices in one page; export one page per slice`);
  }
}

/** Return the page with grey levels for its stored values, which are changed. */
export function toLevels(page, directory, bits, name) {
  const { pixels, samples } = page;
  if (isPalette(directory)) {
    const { values, bits: depth } = readPalette(directory, name);
    const size = values.length / 3;
    const levels = depth === 8 ? new Uint8Array(pixels.length) : new Uint16Array(pixels.length);
    for (let i = 0; i < pixels.length; i++) {
      const value = values[pixels[i]];
      if (values[size + pixels[i]] !== value || values[2 * size + pixels[i]] !== value) {
        throw new ImageError(
          "channels",
          `${name}: its palette has colours, not grey levels; export it as greyscale, without a palette`,
        );
      }
      levels[i] = value;
    }
    return { ...page, pixels: levels };
  }
  if (directory.number(TAG.photometric) === WHITE_IS_ZERO) {
    const most = 2 ** bits - 1;
    for (let i = 0; i < pixels.length; i += samples) pixels[i] = most - pixels[i];
  }
  return page;
}
