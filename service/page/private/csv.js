// Results as CSV, as service/api/formats.py and spreadsheet.py write them. tests/page/private/table.json holds both to the same bytes.

const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const MONTH =
  "(?:jan(?:uary?)?|feb(?:ruary?)?|mar(?:ch)?|märz|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?" +
  "|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)";
const DATE = new RegExp(
  String.raw`^(?:(?:\d{1,4}[-/. ]\d{1,2}(?:[-/. ]\d{1,4})?|\d{1,4}[-/. ]?${MONTH}(?:[-/. ]?\d{1,4})?` +
    String.raw`|${MONTH}[-/. ]?\d{1,4}(?:[-/., ]+\d{1,4})?|\d+:\d+(?::\d+)?)\.?)$`,
  "i",
);
const NUMBER = /^(?:0\d+|\d+(?:[.,]\d*)?e[+-]?\d+|\d{16,})$/i;
const MIN_DECIMALS = 6;
const COARSE = {
  coarse: (cell) => cell.coarse?.label,
  coarse_probability: (cell) => cell.coarse && decimal(cell.coarse.probability),
};

/** Return the results of a run, as /export takes them, as CSV with one row per cell. */
export function toCsv(results) {
  const classes = Object.keys(results.sample.called);
  const columns = {
    sample: (cell) => cell.sample,
    file: (cell) => cell.file,
    page: (cell) => cell.page,
    object: (cell) => cell.object,
    label: (cell) => cell.label,
    confidence: ({ probabilities }) => probabilities && decimal(Math.max(...Object.values(probabilities))),
    ...Object.fromEntries(
      classes.map((name) => [`p_${name}`, ({ probabilities }) => probabilities && decimal(probabilities[name])]),
    ),
    conformal_set: (cell) => (cell.label ? cell.conformal_set.join(";") : null),
    ...(Object.keys(results.hierarchy ?? {}).length ? COARSE : {}),
    verdict: (cell) => cell.verdict,
    quality: (cell) => cell.quality?.join(";"),
    warnings: (cell) => (cell.warnings ?? []).map(({ code }) => code).join(";"),
    error: (cell) => cell.error?.code,
    reason: (cell) => cell.error?.message,
    model: () => results.model.name,
    version: () => results.model.version,
  };
  const rows = results.cells.map((cell) => Object.values(columns).map((of) => field(of(cell))));
  // A byte order mark, without which Excel takes umlauts for Latin-1.
  return `\ufeff${[Object.keys(columns).map(quoted), ...rows].map((row) => `${row.join(",")}\n`).join("")}`;
}

function field(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  return value instanceof Decimal ? value.text : quoted(guard(value));
}

/** Return a text with an apostrophe before it where a spreadsheet would not leave it as it is. */
export const guard = (text) => (FORMULA.test(text) || DATE.test(text) || NUMBER.test(text) ? `'${text}` : text);

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

class Decimal {
  constructor(text) {
    this.text = text;
  }
}

// As many decimals as a number has, but at least six, and never an exponent.
function decimal(number) {
  const [digits, exponent] = number.toString().split("e-");
  const plain = exponent ? `0.${"0".repeat(Number(exponent) - 1)}${digits.replace(".", "")}` : digits;
  const [whole, decimals = ""] = plain.split(".");
  return new Decimal(`${whole}.${decimals.padEnd(MIN_DECIMALS, "0")}`);
}
