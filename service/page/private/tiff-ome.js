// The significant bits that OME-XML states of the pages of a TIFF, as fatescope/data/formats/tiff_ome.py reads them.

import { unsupported } from "./image-error.js";
import { TAG } from "./tiff-directory.js";

const SIGNIFICANT_BITS = /\bSignificantBits\s?=\s?["'](\d{1,3})["']/;
const SERIES = /<(?:\w{1,20}:)?Pixels\b/;
const TIFF_DATA = /<(?:\w{1,20}:)?TiffData\b([^>]{0,500})>/g;
const NUMBER = /\b(IFD|PlaneCount)\s?=\s?["'](\d{1,9})["']/g;
const ALL = 64; // stands for all stored bits, which a series has that states nothing

/** Return the significant bits of each directory: all that are stored where nothing is stated. */
export function significantBits(directories, name) {
  let common;
  return directories.map((directory) => {
    let bits = directory.descriptions.map(ofOneSeries).find((own) => own !== undefined);
    if (bits === undefined) {
      common ??= commonBits(directories, name);
      bits = common;
    }
    return Math.min(bits, directory.number(TAG.bits, 1));
  });
}

// What the description of a page states of it; nothing where it describes several series.
function ofOneSeries(text) {
  const match = SIGNIFICANT_BITS.exec(text);
  return match && text.split(SERIES).length <= 2 ? Number(match[1]) : undefined;
}

// What the first description that states anything states of all pages.
function commonBits(directories, name) {
  const text = directories.flatMap(({ descriptions }) => descriptions).find((one) => one.includes("SignificantBits"));
  if (!text) return ALL;
  const series = text.split(SERIES);
  const stated = new Set(
    (series.length > 1 ? series.slice(1) : series).map((part) => Number(SIGNIFICANT_BITS.exec(part)?.[1] ?? ALL)),
  );
  if (stated.size > 1) throw unsupported(name, "images of several bit depths in one file");
  return [...stated][0];
}

/** Return how many pages OME-XML says that its file has, 0 where it does not say. */
export function announcedPages(text) {
  let most = 0;
  for (const [, attributes] of text.matchAll(TIFF_DATA)) {
    const numbers = Object.fromEntries([...attributes.matchAll(NUMBER)].map(([, key, value]) => [key, Number(value)]));
    most = Math.max(most, (numbers.IFD ?? 0) + (numbers.PlaneCount ?? (numbers.IFD === undefined ? 0 : 1)));
  }
  return most;
}
