// TIFF: the pages of a file and their pixels, as fatescope/data/formats/tiff.py reads them. Tiles, and compressions other than
// LZW, deflate and PackBits, are left to the service.

import { plural } from "../format.js";
import { ImageError, damaged, unsupported } from "./image-error.js";
import { unpack } from "./strips.js";
import { TAG, layoutOf, readChain } from "./tiff-directory.js";
import { announcedPages, significantBits } from "./tiff-ome.js";
import { checkLevels, paletteDepth, toLevels } from "./tiff-levels.js";

const COMPRESSIONS = new Set([1, 5, 8, 32946, 32773]);
const IMAGEJ = /^(?:ImageJ|SCIFIO)=/m;
const IMAGEJ_SLICES = /^images=(\d{1,9})/m;
const MICRO_MANAGER_INDEX = 54_773_648;

export const matches = (bytes) => Boolean(layoutOf(bytes));

/** Return the header of each image { format, height, width, samples, bitDepth, orientation, directory }. */
export function readHeaders(bytes, name) {
  let directories;
  try {
    directories = [...readChain(bytes, layoutOf(bytes))];
    if (!directories.length) throw new RangeError("it has no page");
  } catch (error) {
    throw damaged(name, error.message);
  }
  if (directories[0].numbers.has(TAG.amnisObjects)) {
    throw new ImageError("not_an_image", `${name}: a raw file of an Amnis instrument; call it .cif or .rif`);
  }
  const depths = significantBits(directories, name);
  checkStacks(bytes, directories, name);
  const pages = directories
    .map((directory, i) => ({ directory, depth: depths[i] }))
    .filter(({ directory }) => !directory.isCopy);
  if (!pages.length) {
    throw new ImageError("pages", `${name}: holds nothing but thumbnails or masks; export the image itself`);
  }
  return pages.map(({ directory, depth }) => headerOf(directory, paletteDepth(directory, name) ?? depth, name));
}

function headerOf(directory, bitDepth, name) {
  const [height, width] = [directory.number(TAG.height), directory.number(TAG.width)];
  if (height === undefined || width === undefined) throw damaged(name, "a page without a size");
  const orientation = directory.number(TAG.orientation, 1);
  const isTurned = orientation >= 5 && orientation <= 8;
  const [tall, wide] = isTurned ? [width, height] : [height, width];
  const samples = directory.number(TAG.samples, 1);
  return { format: "TIFF", height: tall, width: wide, samples, bitDepth, orientation, directory };
}

// Some programs describe a whole stack in one directory; a part of a stack is no answer.
function checkStacks(bytes, directories, name) {
  const [first] = directories;
  const isIndexed = bytes.length >= 12 && first.reader.value(8, 4) === MICRO_MANAGER_INDEX;
  const ofImageJ = first.descriptions
    .filter((text) => IMAGEJ.test(text))
    .map((text) => Number(IMAGEJ_SLICES.exec(text)?.[1] ?? 1));
  const announced = Math.max(0, ...ofImageJ, ...first.descriptions.map(announcedPages));
  const isStack = directories.some(
    ({ entries, descriptions }) =>
      (entries.get(TAG.metamorphPlanes)?.total ?? 1) > 1 ||
      descriptions.some((text) => text.startsWith("{") && text.includes('"truncated"')),
  );
  if (announced > directories.length || isStack || (isIndexed && directories.length === 1)) {
    throw unsupported(name, "a stack whose slices one directory describes");
  }
  if (directories.some(({ entries }) => entries.has(TAG.subDirectories))) {
    throw unsupported(name, "a TIFF with directories below its pages");
  }
}

/** Return { pixels, samples, height, width } of a page, as stored. */
export async function decodePage(bytes, { directory, bitDepth }, name) {
  const bits = directory.number(TAG.bits, 1);
  checkLevels(directory, bitDepth, name);
  checkDecodable(directory, bits, name);
  try {
    const page = await decodeStrips(bytes, directory, bits);
    return toLevels(page, directory, bits, name);
  } catch (error) {
    throw error instanceof ImageError ? error : damaged(name, error.message);
  }
}

function checkDecodable(directory, bits, name) {
  const number = (tag, otherwise) => directory.number(tag, otherwise);
  if (number(TAG.sampleFormat, 1) !== 1) {
    throw new ImageError(
      "bit_depth",
      `${name}: signed or fractional pixels; expected unsigned integers of 8 to 16 bits`,
    );
  }
  if (!COMPRESSIONS.has(number(TAG.compression, 1))) throw unsupported(name, `compression ${number(TAG.compression)}`);
  if (bits !== 8 && bits !== 16) throw unsupported(name, `pixels of ${plural(bits, "bit")}`);
  if (number(TAG.tileWidth) !== undefined || number(TAG.tileHeight) !== undefined) throw unsupported(name, "tiles");
  if (number(TAG.fillOrder, 1) !== 1) throw unsupported(name, "bytes whose bits are reversed");
  if (![1, 2].includes(number(TAG.predictor, 1))) throw unsupported(name, `predictor ${number(TAG.predictor)}`);
  if (number(TAG.samples, 1) > 1 && number(TAG.planar, 1) !== 1) throw unsupported(name, "colours in separate planes");
}

async function decodeStrips(bytes, directory, bits) {
  const [height, width, samples] = [
    directory.number(TAG.height),
    directory.number(TAG.width),
    directory.number(TAG.samples, 1),
  ];
  const compression = directory.number(TAG.compression, 1);
  const [offsets, sizes] = [directory.values(TAG.stripOffsets), directory.values(TAG.stripSizes)];
  const rows = Math.min(directory.number(TAG.rowsPerStrip, height) || height, height);
  const rowBytes = (width * samples * bits) / 8;
  if (offsets.length < Math.ceil(height / rows) || sizes.length < offsets.length)
    throw new RangeError("too few strips");
  const raw = new Uint8Array(rowBytes * height);
  for (let top = 0, i = 0; top < height; top += rows, i++) {
    const size = Math.min(rows, height - top) * rowBytes;
    if (offsets[i] + sizes[i] > bytes.length) throw new RangeError("the file ends within a strip");
    raw.set(await unpack(bytes.subarray(offsets[i], offsets[i] + sizes[i]), compression, size), top * rowBytes);
  }
  const pixels = bits === 8 ? raw : toUint16(raw, directory.reader.little);
  if (compression !== 1 && compression !== 32773 && directory.number(TAG.predictor, 1) === 2) {
    undoDifferences(pixels, width * samples, samples);
  }
  return { pixels, samples, height, width };
}

/** Return the 16-bit values of bytes. */
export function toUint16(raw, little) {
  const values = new Uint16Array(raw.length >> 1);
  const [low, high] = little ? [0, 1] : [1, 0];
  for (let i = 0; i < values.length; i++) values[i] = raw[2 * i + low] | (raw[2 * i + high] << 8);
  return values;
}

// In typed arrays, sums are modulo the size of a value, as they should be.
function undoDifferences(pixels, rowLength, samples) {
  for (let row = 0; row < pixels.length; row += rowLength) {
    for (let i = row + samples; i < row + rowLength; i++) pixels[i] += pixels[i - samples];
  }
}
