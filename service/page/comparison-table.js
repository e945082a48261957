// The samples of a comparison as a table, and CSV.

import { ROLES } from "./roles.js";

/** Return the samples of an answer as a table; it can be read again as a plate map. */
export function sampleTable({ samples }, unit) {
  const classes = Object.keys(samples[0]?.class_shares ?? {});
  const roles = ROLES.map((role) => (role === "dose" && unit ? `dose (${unit})` : role));
  const header = ["sample", ...roles, ...classes.flatMap((name) => [`share ${name}`, `low ${name}`, `high ${name}`])];
  const rows = samples.map((row) => [
    row.sample,
    ...ROLES.map((role) => row[role]),
    ...classes.flatMap((name) => {
      const { share, low, high } = row.class_shares[name];
      return [share, low, high];
    }),
  ]);
  return [header, ...rows];
}

// Spreadsheets run what begins like this as a formula; see service/api/spreadsheet.py.
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

/** Return rows as CSV that spreadsheets open as it is meant: with a byte order mark, and no text run as a formula. */
export function toCSV(rows) {
  const field = (value) => {
    if (value == null) return "";
    if (typeof value === "number") return String(value);
    const safe = FORMULA.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `\ufeff${rows.map((row) => row.map(field).join(",")).join("\r\n")}\r\n`;
}
