// A result without images, as text in a link or in a file.

import { countOutside, REASONS } from "./quality.js";
import { countVerdicts, VERDICTS } from "./samples.js";
import { check, FORM, MAX_DIFFERENCES } from "./shared-check.js";
import { countLossy, sizeMessages } from "./warnings.js";

/** Longest text in a link: programs for mail and chat cut longer ones. */
export const MAX_LINK = 8_000;
const MAX_TEXT = 2_000_000; // characters, packed or not
const DECIMALS = 4;

const rounded = (value) => Number(value.toFixed(DECIMALS));
const precise = (value) => Number(value.toPrecision(4));

/** Return what is shared of a run: plain values, and nothing of a single cell. `now` is in ms. */
export function shareOf(run, now) {
  const { model, lastResponse } = run;
  const { name, version } = lastResponse.model;
  return {
    fatescope_result: FORM,
    at: now,
    model: { name, version, task: model.task, backbone: model.backbone, simulated: Boolean(model.simulated) },
    classes: model.classes,
    versions: run.versions.size,
    unreadable: run.unreadable.length,
    lossy: countLossy(run.cells),
    unusual_sizes: sizeMessages(run.cells).length,
    samples: [...run.samples]
      .sort(byName)
      .map(([sample, summarised]) => shareSample(sample, summarised, model.classes)),
    differences: (run.overall?.summary.differences ?? []).slice(0, MAX_DIFFERENCES).map(shareDifference),
  };
}

const byName = ([a], [b]) => (a < b ? -1 : Number(a > b));

function shareSample(name, { cells, summary, excludesOutside, followed }, classes) {
  const { outside, outside_reasons: reasons } = countOutside(cells);
  const verdicts = countVerdicts(cells);
  return {
    name,
    verdicts: Object.keys(VERDICTS).map((verdict) => verdicts[verdict]),
    outside: outside == null ? null : [outside, ...Object.keys(REASONS).map((reason) => reasons[reason])],
    excluded: Boolean(excludesOutside),
    followed: followed ?? 0,
    shares:
      summary.composition &&
      classes.map((label) => ["share", "low", "high"].map((key) => rounded(summary.composition[label][key]))),
  };
}

const shareDifference = ({ name, here, known, edges, here_shares, known_shares }) => ({
  name,
  here: precise(here),
  known: precise(known),
  edges: [edges[0], edges.at(-1)].map(precise),
  here_shares: here_shares.map(rounded),
  known_shares: known_shares.map(rounded),
});

/** Return a result as text for a link: letters, digits, - and _. */
export async function pack(shared) {
  const packed = await through(new Blob([JSON.stringify(shared)]), new CompressionStream("deflate-raw"), Infinity);
  return btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

/** Return the result in a text that `pack` wrote; throws where it is none. */
export async function unpack(text) {
  if (text.length > MAX_TEXT) throw new Error("it is too long");
  let bytes;
  try {
    const packed = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    bytes = await through(new Blob([packed]), new DecompressionStream("deflate-raw"), MAX_TEXT);
  } catch {
    throw new Error("a part of it is missing or changed");
  }
  return parse(new TextDecoder().decode(bytes));
}

/** Return the result in JSON; throws where it is none. */
export function parse(json) {
  if (json.length > MAX_TEXT) throw new Error("it is too long");
  let value;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Error("a part of it is missing or changed");
  }
  return check(value);
}

async function through(blob, stream, max) {
  const parts = [];
  let size = 0;
  const reader = blob.stream().pipeThrough(stream).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
    // Some bytes may unpack to gigabytes.
    if (size > max) throw new Error("it is too long");
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
