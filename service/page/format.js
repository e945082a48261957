// Numbers and lists as a reader expects them.

/** Format a share between 0 and 1 in whole per cent. */
export const percent = (share) => `${Math.round(share * 100)}%`;

/** Format an interval between shares in whole per cent. */
export const interval = (low, high) => `${Math.round(low * 100)}–${percent(high)}`;

/** Round to three significant digits. */
export const round = (value) => Number(value.toPrecision(3)).toLocaleString("en");

/** Format a count with separators between thousands. */
export const number = (count) => count.toLocaleString("en");

/** Choose the word that goes with a count which stands elsewhere in the sentence, such as its verb. */
export const agree = (count, one, many) => (count === 1 ? one : many);

/**
 * Format a count with its noun: "1 image", "1,200 images"; `many` where an s does not make its plural, and for words that
 * follow the noun: "file is", "files are".
 */
export const plural = (count, noun, many = `${noun}s`) => `${number(count)} ${agree(count, noun, many)}`;

/** Format a size: "350 kB", "2.1 GB". */
export function bytes(count) {
  const [unit, name] = [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ].find(([size]) => count >= size) ?? [1, "bytes"];
  return `${round(count / unit)} ${name}`;
}

/** Join words: "a", "a and b", "a, b and c"; or with another conjunction. */
export function list(words, conjunction = "and") {
  const last = words.at(-1) ?? "";
  return words.length < 2 ? last : `${words.slice(0, -1).join(", ")} ${conjunction} ${last}`;
}
