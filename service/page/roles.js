// The roles of samples, which a comparison needs: condition, replicate, day, dose and donor, as names of samples spell them.
// tests/page/roles.json holds the page and the service to the same answers.

/** Roles of a sample, in the order of the table. */
export const ROLES = ["condition", "replicate", "day", "dose", "donor"];

const NUMBER = "\\d+(?:[.,]\\d+)?";
const [BEGIN, END] = ["(?<![\\p{L}\\p{N}])", "(?![\\p{L}\\p{N}])"];
const GAP = "[ _.-]*";
// A number is not the end of a longer one, as in 0.5 µM.
const NUMBER_BEGIN = "(?<![\\p{L}\\p{N}]|\\p{N}[.,])";
const UNIT = `[pnuµμm]M|[pnuµμm]g(?:${GAP}(?:/|per|p)?${GAP}ml)?|%`;

const word = (pattern, flags = "iu") => new RegExp(BEGIN + pattern + END, flags);
const measure = (pattern, flags = "iu") => new RegExp(NUMBER_BEGIN + pattern, flags);

const DONOR = word(`(?:donor|patient|subject|animal)${GAP}([a-z]{0,3}\\d+[a-z]?|[a-z]{1,2})`);
const DAY_AND_REPLICATE = [word("(\\d+)d(\\d+)", "u"), word("d(?:ay)?(\\d+)r(?:ep)?(\\d+)")];
// A large D after a number is a dimension: 3D culture.
const DAYS = [
  [word(`(?:days?|div|tag|d)${GAP}(${NUMBER})`), 1],
  [measure(`(${NUMBER})${GAP}(?:days?|div|d)${END}`, "u"), 1],
  [measure(`(${NUMBER})${GAP}(?:hours?|hrs?|h)${END}`), 1 / 24],
  [word(`(?:weeks?|wk)${GAP}(${NUMBER})`), 7],
  [measure(`(${NUMBER})${GAP}(?:weeks?|wk|w)${END}`), 7],
];
const DOSE = measure(`(${NUMBER})${GAP}(${UNIT})${END}`);
const PLAIN_DOSE = word(`dose${GAP}(${NUMBER})`);
const REPLICATES = [
  word(`(?:replicates?|repl?|run|exp|batch)${GAP}(\\d+|[a-z])`),
  word("r(\\d+)"),
  /#(\d+)(?![\p{L}\p{N}])/u,
  /\((\d+)\)/u,
];
// Words that are numbered for their replicates; others, as NT3, have numbers of their own.
const NUMBERED = word(`(control|ctrl|ctl|treated|untreated|vehicle|dmso|mock|wt|ko)${GAP}(\\d+)`);
const LAST_NUMBER = /(?:^|[/_\s,;-])(\d{1,3})[/_\s,;-]*$/u;
const SEPARATORS = /^[/\\_\s,;.-]+|[/\\_\s,;.-]+$/gu;
const REMOVED = "\0";

const UNITS = { pm: [1e-3, "M"], nm: [1, "M"], µm: [1e3, "M"], mm: [1e6, "M"] };
Object.assign(UNITS, { pg: [1e-3, "g"], ng: [1, "g"], µg: [1e3, "g"], mg: [1e6, "g"] });

/** Return a number as people write it, with a point or a comma; null where it is none. */
export function toNumber(text) {
  const plain = text.trim().replace(",", ".");
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(plain) ? Number(plain) : null;
}

const significant = (value) => Number(value.toPrecision(12));
const plainReplicate = (text) => (/^\d+$/.test(text) ? String(Number(text)) : text);

/** Return the unit of a dose in one spelling: µM, ng, ng/ml, %. */
export function toUnit(text) {
  const plain = text.normalize("NFKC").replaceAll("μ", "µ");
  const prefix = plain[0].toLowerCase().replace("u", "µ");
  if (plain === "%") return plain;
  if (/^.m$/i.test(plain)) return `${prefix}M`;
  return /l$/i.test(plain) ? `${prefix}g/ml` : `${prefix}g`;
}

/** Return the roles that the name of a sample spells, null for those that it does not; the condition is what is left. */
export function readRoles(name) {
  const roles = { condition: "", replicate: null, day: null, dose: null, unit: null, donor: null };
  let rest = name.normalize("NFC").replaceAll("\\", "/");
  const take = (pattern, keep = "") => {
    const match = pattern.exec(rest);
    if (match)
      rest =
        rest.slice(0, match.index) + keep.replace("$1", match[1]) + REMOVED + rest.slice(match.index + match[0].length);
    return match;
  };
  const donor = take(DONOR);
  if (donor) roles.donor = donor[1];
  readDose(roles, take);
  readDay(roles, take);
  readReplicate(roles, take);
  const pieces = rest.split(REMOVED).map((piece) => piece.replace(SEPARATORS, ""));
  roles.condition = pieces.filter(Boolean).join(" ");
  return roles;
}

function readDose(roles, take) {
  const [measured, plain] = [take(DOSE), null];
  if (measured) [roles.dose, roles.unit] = [toNumber(measured[1]), toUnit(measured[2])];
  else roles.dose = toNumber(take(PLAIN_DOSE)?.[1] ?? "") ?? plain;
}

function readDay(roles, take) {
  for (const pattern of DAY_AND_REPLICATE) {
    const match = take(pattern);
    if (!match) continue;
    [roles.day, roles.replicate] = [Number(match[1]), plainReplicate(match[2])];
    return;
  }
  for (const [pattern, days] of DAYS) {
    const match = take(pattern);
    if (!match) continue;
    roles.day = significant(toNumber(match[1]) * days);
    return;
  }
}

function readReplicate(roles, take) {
  if (roles.replicate !== null) return;
  for (const pattern of REPLICATES) {
    const match = take(pattern);
    if (!match) continue;
    roles.replicate = plainReplicate(match[1]);
    return;
  }
  const match = take(NUMBERED, "$1");
  if (match) roles.replicate = plainReplicate(match[2]);
  else roles.replicate = plainReplicate(take(LAST_NUMBER)?.[1] ?? "") || null;
}

/**
 * Return { unit, doses } of roles in one unit, the smallest that is named; a dose of zero needs none. No dose is left
 * where units do not compare, as µM and ng/ml.
 */
export function inOneUnit(all) {
  const named = [...new Set(all.filter(({ dose, unit }) => dose !== null && unit).map(({ unit }) => unit))];
  const lost = { unit: null, doses: all.map(() => null) };
  const unnamed = all.some(({ dose, unit }) => dose && !unit);
  if (!named.length) return { unit: null, doses: all.map(({ dose }) => dose) };
  if (unnamed || new Set(named.map(kindOf)).size > 1) return lost;
  const factor = (unit) => UNITS[unit.split("/")[0].toLowerCase()]?.[0] ?? 1;
  const unit = named.reduce((least, other) => (factor(other) < factor(least) ? other : least));
  const doses = all.map((roles) =>
    roles.dose === null ? null : significant((roles.dose * factor(roles.unit ?? unit)) / factor(unit)),
  );
  return { unit, doses };
}

const kindOf = (unit) => (UNITS[unit.split("/")[0].toLowerCase()]?.[1] ?? unit) + (unit.split("/")[1] ?? "");
