// Keep the labels of cells in this browser, so that they come back where the same cells are classified again.

import { MAX_DAYS } from "./kept-run.js";

const KEY = "labels";
const DAY_MS = 24 * 3600e3;

/** Keep labels, { classes, labels: [[image_hash, class]] }, instead of those before. */
export function keepLabels(packed) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ at: Date.now(), ...packed }));
  } catch {
    // A browser that keeps nothing, or has no room: they stay on the page, as its hint says.
  }
}

/** Return the labels that are kept, null if there are none. */
export function readLabels() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    if (kept && Date.now() - kept.at <= MAX_DAYS * DAY_MS) return kept;
    localStorage.removeItem(KEY);
  } catch {
    // As where nothing is kept.
  }
  return null;
}

/** Delete the labels that are kept. */
export function forgetLabels() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // There are none in a browser that keeps nothing.
  }
}
