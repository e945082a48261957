// Plate maps: tables (CSV, or cells copied from a spreadsheet) that say which well or sample has which roles.
// tests/page/roles.json holds the page and the service to the same answers.

import { readRoles, ROLES, toNumber, toUnit } from "./roles.js";

const COLUMNS = {
  well: ["well", "wells", "position", "pos"],
  sample: ["sample", "sample name", "sample id", "name", "file", "folder", "id"],
  condition: ["condition", "treatment", "group", "medium", "compound", "drug", "genotype"],
  replicate: ["replicate", "rep", "repeat", "run"],
  day: ["day", "days", "div", "time", "timepoint", "time point"],
  dose: ["dose", "concentration", "conc"],
  donor: ["donor", "patient", "subject", "line", "cell line", "animal"],
};
const DAYS = [
  [/^(?:h|hrs?|hours?)$/i, 1 / 24],
  [/^(?:w|wk|weeks?)$/i, 7],
];
const WELL = /^([A-P])0?([1-9]|1\d|2[0-4])$/i;
const NO_HEADER =
  "the first line names neither a column 'well' nor 'sample'; name one of them, and 'condition', 'day', 'dose', 'replicate' or 'donor'";

const NO_ROLE =
  "the first line names no column 'condition', 'day', 'dose', 'replicate' or 'donor'; name what a sample is in one of them";

/** Return the rows of a table of text, each a list of fields; the separator is that of the first line. */
export function parseTable(text) {
  const plain = text.replace(/^\ufeff/, "");
  const first = plain.split(/\r?\n/, 1)[0];
  const separator = ["\t", ";", ","].find((one) => first.includes(one)) ?? ",";
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\\r\\n]*))(${separator}|\\r?\\n|$)`, "gy");
  const rows = [[]];
  for (const [all, quoted, bare, end] of plain.matchAll(field)) {
    if (!all && field.lastIndex >= plain.length && !rows.at(-1).length) break;
    rows.at(-1).push((quoted?.replaceAll('""', '"') ?? bare).trim());
    if (end === separator) continue;
    if (!end) break;
    rows.push([]);
  }
  return rows;
}

const plainWell = (text) => {
  const match = WELL.exec(text);
  return match && match[1].toUpperCase() + match[2];
};

/** Return { rows: [{ well, sample, line, …roles }], problems: [sentence] } of a plate map. */
export function readPlateMap(text) {
  const [header, ...lines] = parseTable(text);
  if (header.slice(1).every((field, i) => field === String(i + 1)) && header.length > 1) return readGrid(lines);
  const columns = header.map(readColumn);
  if (!columns.some((column) => column?.role === "well" || column?.role === "sample")) {
    return { rows: [], problems: [NO_HEADER] };
  }
  // Such as a table of features, which has a column `id` too.
  if (!columns.some((column) => ROLES.includes(column?.role))) return { rows: [], problems: [NO_ROLE] };
  const [rows, problems, seen] = [[], [], new Map()];
  for (const [i, fields] of lines.entries()) {
    if (!fields.some(Boolean)) continue;
    const row = readRow(columns, fields, i + 2, problems);
    const place = row.sample ?? row.well;
    if (!place) problems.push(`line ${row.line}: neither a well nor a sample is named`);
    else if (seen.has(place))
      problems.push(`line ${row.line}: ${place} is named before, on line ${seen.get(place)}; the first counts`);
    else rows.push(row);
    if (place && !seen.has(place)) seen.set(place, row.line);
  }
  return { rows, problems };
}

// "Dose (uM)": the name of a column and its unit.
function readColumn(field) {
  const [, name, unit] = /^(.*?)\s*(?:[([]\s*(.*?)\s*[)\]])?$/.exec(field);
  const found = Object.entries(COLUMNS).find(([, names]) => names.includes(name.toLowerCase().replaceAll("_", " ")));
  return found ? { role: found[0], unit } : null;
}

function readRow(columns, fields, line, problems) {
  const row = { well: null, sample: null, line, condition: "", replicate: null };
  Object.assign(row, { day: null, dose: null, unit: null, donor: null });
  const conditions = [];
  for (const [i, column] of columns.entries()) {
    const text = fields[i] ?? "";
    if (!column || !text) continue;
    const { role, unit } = column;
    if (role === "condition") conditions.push(text);
    else if (row[role] !== null) continue;
    else if (role === "well") row.well = plainWell(text);
    else if (role === "day") row.day = readDay(text, unit) ?? problem(problems, line, `the day '${text}'`, "days as 3");
    else if (role === "dose")
      Object.assign(row, readDose(text, unit) ?? { dose: problem(problems, line, `the dose '${text}'`, "doses as 3") });
    else row[role] = text;
  }
  return { ...row, condition: conditions.join(", ") };
}

function problem(problems, line, what, form) {
  problems.push(`line ${line}: ${what} is not a number; write ${form} or 3.5`);
  return null;
}

function readDay(text, unit) {
  const number = toNumber(text);
  if (number === null) return readRoles(text).day;
  const factor = DAYS.find(([name]) => name.test(unit ?? ""))?.[1] ?? 1;
  return Number((number * factor).toPrecision(12));
}

function readDose(text, unit) {
  const number = toNumber(text);
  if (number !== null) return { dose: number, unit: unit ? toUnit(unit) : null };
  const { dose, unit: written } = readRoles(text);
  return dose === null ? null : { dose, unit: written };
}

// Rows of letters below columns of numbers; a field is written like the name of a sample.
function readGrid(lines) {
  const rows = [];
  for (const [i, [letter, ...fields]] of lines.entries()) {
    for (const [column, text] of fields.entries()) {
      const well = plainWell(`${letter}${column + 1}`);
      if (well && text) rows.push({ well, sample: null, line: i + 2, ...readRoles(text) });
    }
  }
  return { rows, problems: [] };
}

/** Return a Map of sample → row, for the samples that the rows name, or whose name holds their well. */
export function matchSamples(rows, samples) {
  const named = new Map(rows.filter(({ sample }) => sample).map((row) => [row.sample.toLowerCase(), row]));
  const wells = new Map(rows.filter(({ sample, well }) => well && !sample).map((row) => [row.well, row]));
  const find = (sample) => {
    const lower = sample.toLowerCase();
    const byName = named.get(lower) ?? named.get(lower.split("/").at(-1));
    if (byName) return byName;
    const inName = sample.split(/[^\p{L}\p{N}]+/u).map(plainWell);
    return wells.get(inName.findLast((well) => wells.has(well)));
  };
  return new Map(samples.map((sample) => [sample, find(sample)]).filter(([, row]) => row));
}
