// The objects of a .rif or .cif, one after the other, as fatescope/data/native/reader.py reads them.

import { channelsOf } from "../filenames.js";
import { plural } from "../format.js";
import { sameChannel } from "../names.js";
import { ImageError } from "./image-error.js";
import { checkHeader } from "./images.js";
import { IMAGES_COMPRESSED, KIND, Source, TAG, readFirst, readNext } from "./native-directory.js";
import { decodeImage } from "./nibbles.js";

const BIT_DEPTH = 16;
const MAX_XML = 8 << 20;
const MAX_CHANNELS = 12;
const MAX_NIBBLES = 10;
const BRIGHTFIELD = "brightfield";

export class NativeFile {
  /** Open a Blob for the model of a spec; throws an ImageError. */
  static async open(blob, name, spec) {
    const source = new Source(blob);
    try {
      const header = await readFirst(source);
      const xml = new TextDecoder().decode(await header.raw(TAG.acquisition, MAX_XML));
      return new NativeFile(source, name, header, xml, spec);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const message = `${name}: a raw file of an Amnis instrument (.rif or .cif) whose header cannot be read: ${error.message}; copy or save it again`;
      throw new ImageError("truncated", message);
    }
  }

  constructor(source, name, header, xml, spec) {
    Object.assign(this, { source, name, directory: header, index: 0 });
    this.objects = header.number(TAG.objects) ?? null;
    this.used = indicators(xml, "Imaging", "ChannelInUseIndicators_0_11");
    this.lit = indicators(xml, "Illumination", "BfLedIndicators_0_11").filter((channel) => this.used.includes(channel));
    const inputs = channelsOf(spec);
    this.channels = this.choose(
      inputs,
      inputs.map((channel) => spec.channels?.[channel] ?? BRIGHTFIELD),
    );
    // Channels that are read in place of those that the model was trained on.
    this.unlike = inputs
      .map((input, i) => [this.channels[i], input])
      .filter(([channel, input]) => !sameChannel(String(channel), input));
  }

  // The brightfield channel of the file stands for the one of the model; others count as named.
  choose(inputs, kinds) {
    const isOne = kinds.filter((kind) => kind === BRIGHTFIELD).length === 1;
    if (!inputs.length) return [this.brightfield(undefined)];
    return inputs.map((input, i) => (isOne && kinds[i] === BRIGHTFIELD ? this.brightfield(input) : this.named(input)));
  }

  brightfield(preferred) {
    const wanted = (this.lit.length ? this.lit : this.used).find((channel) => String(channel) === preferred);
    const found = wanted ?? this.lit[0];
    if (found) return found;
    throw new ImageError(
      "channels",
      `${this.name}: no channel in use has a brightfield lamp, or the file does not say; save it again in IDEAS`,
    );
  }

  named(input) {
    const found = this.used.find((channel) => String(channel) === input);
    if (found) return found;
    throw new ImageError(
      "missing_channel",
      `${this.name}: has no channel ${input}; in use are ${this.used.join(", ")}`,
    );
  }

  /**
   * Return up to `count` further objects, each { object, pages } with pages of its channels, and whether that was all; `problem`
   * is the ImageError for those that cannot be found.
   */
  async next(count) {
    const objects = [];
    while (objects.length < count) {
      try {
        const directory = await this.step();
        if (!directory) return { objects, ended: true, problem: this.index ? null : this.empty };
        if (directory.kind !== KIND.image) continue;
      } catch (problem) {
        if (!(problem instanceof ImageError)) throw problem;
        return { objects, ended: true, problem };
      }
      const object = this.directory.number(TAG.object) ?? this.index;
      this.index++;
      objects.push({ object, pages: await this.decode(this.directory, object) });
    }
    return { objects, ended: false, problem: null };
  }

  get empty() {
    return new ImageError("empty", `${this.name}: holds no object; save it again`);
  }

  async step() {
    try {
      const next = await readNext(this.directory, this.index < (this.objects ?? 0));
      this.directory = next ?? this.directory;
      return next;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new ImageError(
        "truncated",
        `${this.name}: the objects from number ${this.index} on cannot be found: ${error.message}; copy or save the file again`,
      );
    }
  }

  async decode(directory, object) {
    const name = `${this.name}#${object}`;
    try {
      return await this.pagesOf(directory, name);
    } catch (error) {
      if (error instanceof ImageError) return [{ error }];
      if (!(error instanceof RangeError)) throw error;
      return [{ error: new ImageError("truncated", `${name}: ${error.message}; copy or save the file again`) }];
    }
  }

  async pagesOf(directory, name) {
    const [height, width] = [directory.needed(TAG.height), directory.needed(TAG.width)];
    const count = this.used.length;
    if (!count || count > MAX_CHANNELS || !height || !width || width % count) {
      throw new RangeError(`${height}x${width} px cannot be divided into ${plural(count, "channel")}`);
    }
    const each = width / count;
    const header = { format: "CIF", height, width: each, samples: 1, bitDepth: BIT_DEPTH, orientation: 1 };
    checkHeader(header, name);
    if (directory.needed(TAG.compression) !== IMAGES_COMPRESSED) throw new RangeError("another compression");
    const size = directory.needed(TAG.stripSize);
    if (size > (height * width * MAX_NIBBLES) / 2) throw new RangeError(`it announces ${size} bytes`);
    const stream = await this.source.read(directory.nearest(directory.needed(TAG.stripOffset)), size);
    const starts = this.channels.map((channel) => this.used.indexOf(channel) * each);
    return decodeImage(stream, height, width, starts, each).map((pixels) => ({ header, pixels }));
  }
}

/** Return the channels, from 1, that a list of twelve numbers in the XML of an acquisition marks. */
function indicators(xml, outer, inner) {
  if (/<!(?:DOCTYPE|ENTITY)/.test(xml)) throw new RangeError("its XML declares a document type");
  const [, within = ""] = new RegExp(`<${outer}\\b[^>]*>([^]*?)</${outer}>`).exec(xml) ?? [];
  const [, list = ""] = new RegExp(`<${inner}\\b[^>]*>([^<]*)</${inner}>`).exec(within) ?? [];
  const numbers = list.trim().split(/\s+/).slice(0, MAX_CHANNELS).map(Number);
  return numbers.flatMap((value, i) => (value && Number.isFinite(value) ? [i + 1] : []));
}
