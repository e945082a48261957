// The quality of a cell, and whether it is outside the gates of a model, as fatescope/data/cell_quality.py and quality_gate.py measure
// it. tests/page/private/quality.json holds both to the same answers.

import { borderOf } from "./images.js";
import { and, count, dilate, findParts, maskOf, not } from "./masks.js";

const THRESHOLD = 2.2;
const MAIN = 0.3;
const OPENING = 0.42;
const { fround, sqrt } = Math;

/** Return why a cell of (height, width) pixels is outside the gates, nothing for a good one. */
export function reasonsOf(pixels, height, width, bitDepth, gate) {
  const { area, aspect, gradient, contact, saturation } = measure(pixels, height, width, bitDepth);
  const isSmall = area < fround(gate.min_area);
  const doublet = gate.doublet_area * Math.log(Math.max(area, 1)) + gate.doublet_aspect_ratio * aspect;
  return Object.entries({
    // An image without an object has no focus, and what is too small for a cell is no two.
    focus: gradient < fround(gate.min_gradient_rms) && area > 0,
    doublet: doublet > gate.max_doublet && !isSmall,
    debris: isSmall,
    clipped: contact > fround(gate.max_border_contact),
    saturated: saturation > fround(gate.max_saturation),
  })
    .filter(([, isOutside]) => isOutside)
    .map(([reason]) => reason);
}

/** Return the features { area, aspect, gradient, contact, saturation } of a crop. */
export function measure(pixels, height, width, bitDepth) {
  const { dev, inside, spread } = layOut(pixels, height, width);
  const mask = segment(dev, inside, spread);
  const area = count(mask);
  const body = withoutProcesses(mask, area, inside);
  const top = 2 ** bitDepth - 1;
  return {
    area: count(body),
    aspect: fround(aspectRatio(body)),
    gradient: fround(gradientRms(dev, mask, area)),
    contact: fround(borderContact(mask, inside)),
    saturation: fround(pixels.filter((pixel) => pixel >= top).length / pixels.length),
  };
}

// Deviations from the background, with a pixel around the crop that is not of it, and the spread of the background.
function layOut(pixels, height, width) {
  const frame = borderOf(pixels, height, width);
  const level = median(Float64Array.from(frame));
  const spread = fround(1.4826 * median(Float64Array.from(frame, (pixel) => Math.abs(pixel - level))));
  const size = { height: height + 2, width: width + 2 };
  const dev = new Float32Array(size.height * size.width);
  const inside = maskOf(size, () => 0);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const at = (y + 1) * size.width + x + 1;
      dev[at] = pixels[i] - level;
      inside.bits[at] = 1;
    }
  }
  return { dev, inside, spread };
}

function median(values) {
  const sorted = values.sort();
  const half = sorted.length >> 1;
  return (sorted[half - 1] + sorted[half]) / 2;
}

// What differs from the background, without holes and specks.
function segment(dev, inside, spread) {
  const limit = fround(fround(fround(THRESHOLD) * Math.max(spread, 0.5)) ** 2);
  const energy = boxSum(
    Float32Array.from(dev, (value) => value * value),
    inside.width,
  );
  const pixels = boxSum(Float32Array.from(inside.bits), inside.width);
  const raw = maskOf(inside, (i) => energy[i] > fround(limit * pixels[i]) && inside.bits[i]);
  const closed = and(not(dilate(not(dilate(raw)))), inside);
  return mainObjects(and(dilate(not(dilate(not(fillHoles(closed))))), inside));
}

// Sums over 3x3 px, 0 at the edges; in the order of additions of Python's.
function boxSum(values, width) {
  const [columns, total] = [new Float32Array(values.length), new Float32Array(values.length)];
  const last = values.length - width;
  for (let i = width; i < last; i++) columns[i] = fround(values[i - width] + values[i]) + values[i + width];
  for (let start = width; start < last; start += width) {
    for (let i = start + 1; i < start + width - 1; i++) total[i] = fround(columns[i - 1] + columns[i]) + columns[i + 1];
  }
  return total;
}

// What is not connected to the pixels around the crop is a hole.
function fillHoles(mask) {
  const { parts } = findParts(not(mask));
  return maskOf(mask, (i) => mask.bits[i] || parts[i] > 1);
}

function mainObjects(mask) {
  const { parts, sizes } = findParts(mask);
  const least = MAIN * Math.max(...sizes);
  return maskOf(mask, (i) => mask.bits[i] && sizes[parts[i]] >= least);
}

// Opened by an octagon that is in proportion to the object; all of one that would vanish.
function withoutProcesses(mask, area, inside) {
  const steps = Math.round(OPENING * sqrt(area / Math.PI));
  let missing = and(inside, not(mask));
  for (let i = 0; i < steps; i++) missing = dilate(missing, i % 2 === 0);
  let opened = and(inside, not(missing));
  for (let i = 0; i < steps; i++) opened = dilate(opened, i % 2 === 0);
  opened = and(opened, mask);
  return count(opened) ? opened : mask;
}

// The minor over the major axis of the ellipse with the same second moments.
function aspectRatio({ bits, width }) {
  let [n, y, x, yy, xx, xy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < bits.length; i++) {
    if (!bits[i]) continue;
    const [row, column] = [Math.floor(i / width), i % width];
    n++;
    [y, x, yy, xx, xy] = [y + row, x + column, yy + row * row, xx + column * column, xy + row * column];
  }
  if (!n) return 0;
  // A pixel is a square, whose own second moment is a twelfth.
  const [down, right] = [yy / n - (y / n) ** 2 + 1 / 12, xx / n - (x / n) ** 2 + 1 / 12];
  const both = xy / n - (y / n) * (x / n);
  const [mean, difference] = [(down + right) / 2, Math.hypot((down - right) / 2, both)];
  return sqrt(Math.max(mean - difference, 0) / (mean + difference));
}

function gradientRms(dev, { bits, width }, area) {
  let [energy, sum, squares] = [0, 0, 0];
  for (let i = 0; i < bits.length; i++) {
    if (!bits[i]) continue;
    const [down, right] = [(dev[i + width] - dev[i - width]) / 2, (dev[i + 1] - dev[i - 1]) / 2];
    [energy, sum, squares] = [energy + down * down + right * right, sum + dev[i], squares + dev[i] * dev[i]];
  }
  const n = Math.max(area, 1);
  return sqrt(energy / n / Math.max(squares / n - (sum / n) ** 2, 1e-6));
}

function borderContact(mask, inside) {
  const outline = count(and(mask, dilate(not(mask))));
  return count(and(mask, and(inside, dilate(not(inside))))) / Math.max(outline, 1);
}
