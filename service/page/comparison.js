// What a comparison of cultures is asked for and answers, without anything of the page: requests, sentences and tables.

import { agree, list, number, plural } from "./format.js";
import { composedCells } from "./quality.js";
import { inOneUnit, readRoles } from "./roles.js";
import { groupBy, isMostlyUnlike } from "./samples.js";
import { unlikeOf } from "./sentences.js";
import { countOnce } from "./tracks.js";

const CONTROL = /^(?:controls?|ctrl|ctl|kontrollen?|vehicle|dmso|mock|untreated|wt|wild ?type)(?![\p{L}\p{N}])/iu;
const MANY_COMPARISONS = 2;
const SMALLEST_P = 0.001;

/** Return the roles of a sample as its name and, where it is in one, the row of a plate map say. */
export function initialRoles(sample, row) {
  if (!row) return readRoles(sample);
  const { condition, replicate, day, dose, unit, donor } = row;
  return { condition, replicate, day, dose, unit, donor };
}

/** Give conditions that differ in case, spaces or underscores only the spelling of the first of them. */
export function unifyConditions(roles) {
  const spellings = new Map();
  for (const its of roles.values()) {
    const plain = its.condition
      .normalize("NFKC")
      .toLowerCase()
      .replaceAll(/[\s_-]+/g, " ");
    if (!spellings.has(plain)) spellings.set(plain, its.condition);
    its.condition = spellings.get(plain);
  }
}

/** Return condition → samples, in the order in which they first appear; samples without a condition are in none. */
export const conditionsOf = (roles) =>
  groupBy(
    [...roles.keys()].filter((sample) => roles.get(sample).condition),
    (sample) => roles.get(sample).condition,
  );

/** Return the condition that others are compared with unless a person chooses: one that is called like a control. */
export const usualReference = (conditions) => conditions.find((name) => CONTROL.test(name)) ?? conditions[0] ?? null;

/**
 * Return { samples, unit, leftOut, lostDoses }: what /compare takes of the samples of a run, the unit of their doses,
 * [{ sample, reason }] of those that cannot be compared, and whether doses are left out because their units do not compare.
 */
export function comparedSamples({ samples, excludesOutside, model }, roles) {
  const [kept, leftOut] = [[], []];
  const only = onlyCondition(roles);
  for (const sample of [...samples.keys()].sort()) {
    const { cells, summary } = samples.get(sample);
    const composed = composedCells(countOnce(cells, model), excludesOutside);
    const counted = composed.filter(({ verdict }) => verdict !== "unlike_training");
    const reason = reasonAgainst(roles.get(sample).condition || only, cells, counted);
    if (reason) leftOut.push({ sample, reason });
    else kept.push({ sample, ...summaryOf(counted, model.classes), shares: sharesOf(summary, model.classes) });
  }
  const { unit, doses } = inOneUnit(kept.map(({ sample }) => roles.get(sample)));
  const withRoles = kept.map((summary, i) => {
    const { condition, replicate, day, donor } = roles.get(summary.sample);
    return { ...summary, condition: condition || only, replicate, day, dose: doses[i], donor };
  });
  const lostDoses = doses.every((dose) => dose === null) && kept.some(({ sample }) => roles.get(sample).dose !== null);
  return { samples: withRoles, unit, leftOut, lostDoses };
}

// Days or doses of one culture need no condition.
function onlyCondition(roles) {
  const all = [...roles.values()];
  const isPlaced = all.some(({ day, dose }) => day !== null || dose !== null);
  return isPlaced && all.every(({ condition }) => !condition) ? "all samples" : "";
}

/** Return whether samples differ in what can be compared: in their conditions, days or doses. */
export const areComparable = (samples) =>
  ["condition", "day", "dose"].some((role) => new Set(samples.map((sample) => sample[role]).filter(isGiven)).size > 1);

const isGiven = (value) => value !== null && value !== "";

function reasonAgainst(condition, cells, counted) {
  if (!condition) return "no condition is given";
  if (isMostlyUnlike(cells)) return unlikeOf(cells);
  return counted.length ? null : "no cell is left that counts";
}

function summaryOf(cells, classes) {
  // A sum of many may be a little more than it should.
  const mean = (name) =>
    Math.min(1, cells.reduce((sum, { probabilities }) => sum + probabilities[name], 0) / cells.length);
  const count = (name) => cells.filter(({ label }) => label === name).length;
  return {
    cells: cells.length,
    mean: Object.fromEntries(classes.map((name) => [name, mean(name)])),
    called: Object.fromEntries(classes.map((name) => [name, count(name)])),
  };
}

// Those that the page shows of the sample.
const sharesOf = ({ composition }, classes) =>
  composition ? Object.fromEntries(classes.map((name) => [name, composition[name].share])) : null;

/** Say what is compared, or what is missing before anything can be. */
export function rolesSummary(roles) {
  const conditions = conditionsOf(roles);
  const without = [...roles.values()].filter(({ condition }) => !condition).length;
  const named = [...conditions].map(([name, samples]) => `${name} (${number(samples.length)})`);
  const missing = without ? `, ${number(without)} without a condition` : "";
  if (!named.length) return `Roles of the samples: ${plural(roles.size, "sample")}, none has a condition yet`;
  const count = plural(conditions.size, "condition");
  return `Roles of the samples: ${plural(roles.size, "sample")} in ${count}: ${list(named)}${missing}`;
}

/** Say which samples are not compared, one line for every reason. */
export const leftOutLines = (leftOut) =>
  [...groupBy(leftOut, ({ reason }) => reason)].map(
    ([reason, its]) =>
      `${list(its.map(({ sample }) => sample))} ${agree(its.length, "is", "are")} not compared: ${reason}.`,
  );

/** Return the differences of each condition from the reference, what keeps p-values away, and on how much they rest. */
export function differencesByCondition({ differences, reference }) {
  return [...groupBy(differences, ({ condition }) => condition)].map(([condition, its]) => ({
    condition,
    differences: its,
    whyNot: unique(its.map((difference) => difference.why_not)),
    counts: unique(its.map((difference) => unitCounts(difference, reference))),
  }));
}

const unique = (texts) => [...new Set(texts.filter(Boolean))];

function unitCounts({ condition, replicates: [here, there], pairs }, reference) {
  if (pairs) return `${plural(pairs, "donor")}, each compared with itself`;
  return `${plural(here, "replicate")} of ${condition}, ${number(there)} of ${reference}`;
}

/** Return the days that differences are of, in order; null where days do not matter. */
export const daysOf = ({ differences }) =>
  [...new Set(differences.map(({ day }) => day ?? null))].sort((a, b) => a - b);

/**
 * Return the rows of the charts of a day: [{ name, samples, find(class) }], the reference first. A condition has a row
 * for each dose where doses are compared; `find` returns the difference of a class in the row, undefined for the reference.
 */
export function comparedRows({ samples, differences, reference }, day, unit) {
  const its = differences.filter((difference) => (difference.day ?? null) === day);
  const dosed = new Set(its.filter(({ dose }) => dose != null).map(({ condition }) => condition));
  if (dosed.size) dosed.add(reference);
  const here = samples.filter((sample) => day === null || sample.day === day);
  const doseOf = ({ condition, dose }) => (dosed.has(condition) ? (dose ?? null) : null);
  const groups = groupBy(here, (sample) => JSON.stringify([sample.condition, doseOf(sample)]));
  const rows = [...groups.values()].map((members) => {
    const { condition } = members[0];
    const dose = doseOf(members[0]);
    const name = dose === null ? condition : [condition, dose, unit].filter((part) => part !== null).join(" ");
    const find = (label) =>
      its.find((difference) => {
        return difference.condition === condition && difference.class === label && (difference.dose ?? null) === dose;
      });
    return { name, condition, dose, samples: members, find, isReference: condition === reference };
  });
  return rows.sort((a, b) => b.isReference - a.isReference || compareNames(a, b) || a.dose - b.dose);
}

const compareNames = (a, b) => (a.condition < b.condition ? -1 : Number(a.condition > b.condition));

/** Format a p-value; nothing where there is none. */
export function pValue(value) {
  if (value == null) return "";
  return value < SMALLEST_P ? `p < ${SMALLEST_P}` : `p = ${Number(value.toPrecision(2))}`;
}

/** Warn that many comparisons find something by chance; nothing for few. */
export function manyComparisons({ differences }) {
  const tested = differences.filter((difference) => difference.p_value != null).length;
  if (tested <= MANY_COMPARISONS) return "";
  return `These are ${number(tested)} comparisons. Where nothing differs, about one p-value in twenty is still below 0.05.`;
}
