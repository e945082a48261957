// Numbers as a reader expects them.

/** Format a share between 0 and 1 in whole per cent. */
export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** Round to three significant digits. */
export const round = (value) => Number(value.toPrecision(3)).toLocaleString("en");

/** Format a count with separators between thousands. */
export const number = (count) => count.toLocaleString("en");

/** Format a count with its noun: "1 image", "1,200 images". */
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
