// Check a result that somebody has shared: whoever made the link or the file may have written anything into it.

import { REASONS } from "./quality.js";
import { VERDICTS } from "./samples.js";

/** Form of a shared result; a page that does not know a later one says so. */
export const FORM = 1;
/** Most differences from the training images in it: as many as the page lists. */
export const MAX_DIFFERENCES = 3;
const MAX_NAME = 500;
const MAX_CLASSES = 100;
const MAX_SAMPLES = 5_000;
const MAX_BINS = 200;

function demand(holds) {
  if (!holds) throw new Error("it is not a result of this page");
}

function word(value) {
  demand(typeof value === "string" && value.length > 0 && value.length <= MAX_NAME);
  return value;
}

function number(value, least = -Infinity, most = Infinity) {
  demand(typeof value === "number" && Number.isFinite(value) && value >= least && value <= most);
  return value;
}

function count(value) {
  demand(Number.isSafeInteger(value) && value >= 0);
  return value;
}

function list(values, read, { length = null, most = Infinity } = {}) {
  demand(Array.isArray(values) && (length === null ? values.length <= most : values.length === length));
  return values.map(read);
}

const share = (value) => number(value, 0, 1);

/** Return a result from what JSON holds, of which nothing is trusted; throws where it is none. */
export function check(value) {
  demand(typeof value === "object" && value !== null && typeof value.model === "object" && value.model !== null);
  if (Number.isInteger(value.fatescope_result) && value.fatescope_result > FORM) {
    throw new Error("a newer version of Fatescope has written it");
  }
  demand(value.fatescope_result === FORM);
  const classes = list(value.classes, word, { most: MAX_CLASSES });
  const { name, version, task, backbone, simulated } = value.model;
  return {
    at: number(value.at, 0, 8e15),
    model: {
      name: word(name),
      version: word(version),
      task: word(task),
      backbone: word(backbone),
      simulated: simulated === true,
    },
    classes,
    versions: count(value.versions),
    unreadable: count(value.unreadable),
    lossy: count(value.lossy),
    unusualSizes: count(value.unusual_sizes),
    samples: list(value.samples, (sample) => checkSample(sample, classes), { most: MAX_SAMPLES }),
    differences: list(value.differences, checkDifference, { most: MAX_DIFFERENCES }),
  };
}

function checkSample(sample, classes) {
  demand(typeof sample === "object" && sample !== null);
  const verdicts = Object.keys(VERDICTS);
  const reasons = Object.keys(REASONS);
  const counts = list(sample.verdicts, count, { length: verdicts.length });
  const outside = sample.outside === null ? null : list(sample.outside, count, { length: reasons.length + 1 });
  const shares =
    sample.shares === null
      ? null
      : list(sample.shares, (values) => list(values, share, { length: 3 }), { length: classes.length });
  const composition = shares?.map(([middle, low, high], i) => [classes[i], { share: middle, low, high }]);
  return {
    name: word(sample.name),
    excludesOutside: sample.excluded === true,
    // Pages of before cells were followed over time wrote none.
    followed: count(sample.followed ?? 0),
    // Counts in the place of cells, of which nothing else is asked here.
    cells: {
      length: counts.reduce((sum, value) => sum + value, 0),
      verdicts: Object.fromEntries(verdicts.map((verdict, i) => [verdict, counts[i]])),
      outside: outside
        ? {
            outside: outside[0],
            outside_reasons: Object.fromEntries(reasons.map((reason, i) => [reason, outside[i + 1]])),
          }
        : {},
    },
    summary: { composition: composition ? Object.fromEntries(composition) : null },
  };
}

function checkDifference(difference) {
  demand(typeof difference === "object" && difference !== null);
  const { name, here, known, edges, here_shares: shares, known_shares: knownShares } = difference;
  demand(Array.isArray(shares) && shares.length > 0 && shares.length <= MAX_BINS);
  return {
    name: word(name),
    here: number(here),
    known: number(known),
    edges: list(edges, (edge) => number(edge), { length: 2 }),
    here_shares: list(shares, share),
    known_shares: list(knownShares, share, { length: shares.length }),
  };
}
