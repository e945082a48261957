// Classify files with a network that runs here, and answer as /classify_batch does with `details=true`.

import { channelsOf } from "../filenames.js";
import { assess, distance, softmax } from "./assess.js";
import { reasonsOf } from "./cell-quality.js";
import { ImageError } from "./image-error.js";
import { decodePages, place } from "./images.js";
import { thumbnail } from "./thumbnail.js";

const BATCH = 32; // cells that the network gets at once

export class Classifier {
  /** `network` runs; `spec` is that of the bundle, `outliers` are its tensors. */
  constructor(network, spec, outliers) {
    Object.assign(this, { network, spec, outliers });
    this.names = channelsOf(spec);
    this.channels = this.names.length || 1;
  }

  /** Return the results for the cells of objects [{ upload, object, files: [{ name, bytes }] }], one file for each channel. */
  async classify(objects) {
    const cells = [];
    for (const each of objects) cells.push(...(await this.decode(each)));
    return this.answer(cells);
  }

  /** Return the results for objects of a NativeFile. */
  async classifyNative({ name, unlike }, objects) {
    const warnings = unlike.map(([channel, trained]) => ({
      code: "channel",
      message:
        `read in channel ${channel}, where the brightfield lamp was, but the model was trained on channel ${trained}; ` +
        "another lamp or another camera may look different",
    }));
    const cells = objects.map(({ object, pages }) => {
      const cell = this.cellOf(pages, { sample: null, file: name, page: null, object, upload: null });
      return cell.error ? cell : { ...cell, warnings: [...cell.warnings, ...warnings] };
    });
    return this.answer(cells);
  }

  async answer(cells) {
    await this.predict(cells.filter(({ error }) => !error));
    return cells.map(({ crops, size, ...result }) => result);
  }

  async decode({ files, upload, object }) {
    const [{ name }] = files;
    const common = { sample: null, file: name, page: null, object, upload };
    try {
      const channels = [];
      for (const { name: file, bytes } of files) channels.push(await decodePages(bytes, file));
      const counts = new Set(channels.map((pages) => pages.length));
      if (counts.size > 1)
        throw new ImageError("channels_differ", `${name}: the channels have different numbers of pages`);
      return channels[0].map((_, i) => {
        const page = channels[0].length > 1 ? i : null;
        return this.cellOf(
          channels.map((pages) => pages[i]),
          { ...common, page },
        );
      });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return [failure(common, error)];
    }
  }

  /** Return a cell of the pages of its channels, each { header, pixels } or { error }, with what is `common` to answers. */
  cellOf(pages, common) {
    const { spec } = this;
    const broken = pages.find(({ error }) => error);
    if (broken) return failure(common, broken.error);
    const [{ header }] = pages;
    const isLike = ({ header: { height, width, bitDepth } }) =>
      height === header.height && width === header.width && bitDepth === header.bitDepth;
    if (!pages.every(isLike)) {
      return failure(
        common,
        new ImageError(
          "channels_differ",
          `${common.file}: the channels differ in size or bit depth; export all in one`,
        ),
      );
    }
    if (!spec.bit_depths.includes(header.bitDepth)) {
      const expected = spec.bit_depths.join(" or ");
      const message = `${common.file}: ${header.bitDepth} bits per pixel, but the model was trained on ${expected} bits; export with the bit depth of the camera`;
      return failure(common, new ImageError("bit_depth", message));
    }
    return {
      ...common,
      ...this.picturesOf(pages),
      quality: this.qualityOf(pages[0]),
      warnings: unusual(header, spec),
      size: [header.height, header.width],
      crops: pages.map(({ pixels }) => pixels),
    };
  }

  // Of the first channel; a model of before there were gates says nothing of it.
  qualityOf({ header: { height, width, bitDepth }, pixels }) {
    return this.spec.quality ? reasonsOf(pixels, height, width, bitDepth, this.spec.quality) : null;
  }

  picturesOf(pages) {
    const drawn = pages.map(({ header, pixels }) => thumbnail(pixels, header.height, header.width));
    if (drawn.length === 1) return { thumbnail: drawn[0] };
    return { thumbnail: drawn[0], thumbnails: Object.fromEntries(drawn.map((png, i) => [this.names[i], png])) };
  }

  /** Add the answers to cells that were decoded. */
  async predict(cells) {
    const { canvas, outlier_threshold: threshold } = this.spec;
    const area = canvas[0] * canvas[1];
    for (let start = 0; start < cells.length; start += BATCH) {
      const batch = cells.slice(start, start + BATCH);
      const placed = new Uint16Array(batch.length * this.channels * area);
      for (const [i, { crops, size }] of batch.entries()) {
        for (const [c, crop] of crops.entries()) {
          const at = (i * this.channels + c) * area;
          place(crop, ...size, canvas, placed.subarray(at, at + area));
        }
      }
      const shape = [batch.length, this.channels, ...canvas];
      const { logits, embedding } = await this.network.run(Float32Array.from(placed), shape);
      for (const [i, cell] of batch.entries()) {
        const away = distance(embedding[i], this.outliers, threshold);
        Object.assign(cell, assess(softmax(logits[i]), away, this.spec));
      }
    }
  }
}

const failure = (common, { code, message }) => ({ ...common, error: { code, message, file: common.file } });

/** Return in what the image of a cell is unlike those that the model was trained on. */
function unusual({ height, width }, { height_px: heights, width_px: widths, canvas }) {
  const warnings = [];
  for (const [side, value, [low, high]] of [
    ["height", height, heights],
    ["width", width, widths],
  ]) {
    if (value >= low && value <= high) continue;
    warnings.push({
      code: "size",
      message: `${side} of ${value} px, but the model was trained on ${low} to ${high} px`,
    });
  }
  if (height > canvas[0] || width > canvas[1]) {
    const message = `larger than the canvas of ${canvas[0]}x${canvas[1]} px (height x width): the rim was cut off`;
    warnings.push({ code: "cut", message });
  }
  return warnings;
}
