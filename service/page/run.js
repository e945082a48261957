// One classification of the files that the user chose: what was sent, what came back, what is missing.

import { NO_FOLDER } from "./filenames.js";

export class Run {
  constructor(model, total) {
    this.model = model; // as /models describes it
    this.total = total; // files
    this.files = new Set(); // items: two zips may hold files of the same path
    this.processed = new Set(); // items that the service has answered
    this.failures = new Map(); // item → message, of the current attempt
    this.cells = []; // as the service returns them, with `item` and `sample`
    this.versions = new Set(); // of the model, in the responses
    this.lastResponse = null;
    this.samples = new Map(); // name → { cells, summary }
    this.overall = null; // { cells, summary } of all samples together
    this.finished = false;
    this.waitReason = null;
  }

  /** Begin to send items, for the first time or again. */
  begin(items) {
    this.controller = new AbortController();
    this.failures.clear();
    this.finished = false;
    for (const item of items) this.files.add(item);
  }

  /** Take in the response to a chunk. */
  addResponse(chunk, response) {
    for (const item of chunk) if (!this.failures.has(item)) this.processed.add(item);
    this.versions.add(response.model.version);
    this.lastResponse = response;
    for (const cell of response.cells) {
      cell.item ??= chunk.find(({ path }) => path === cell.file);
      cell.sample = cell.item?.sample ?? NO_FOLDER;
      this.cells.push(cell);
    }
  }

  /** Note that items could not be sent. */
  addFailure(items, error) {
    for (const item of items) this.failures.set(item, error.message);
  }

  /** End the current attempt. */
  finish() {
    this.finished = true;
  }

  /** Return whether the user cancelled the current attempt. */
  get cancelled() {
    return this.controller.signal.aborted;
  }

  /** Return why the first item could not be sent. */
  get failure() {
    return [...this.failures.values()][0] ?? "";
  }

  /** Return the items without a response. */
  get missing() {
    return [...this.files].filter((item) => !this.processed.has(item));
  }

  /** Return the cells that were classified. */
  get classified() {
    return this.cells.filter((cell) => cell.label);
  }

  /** Return the images that could not be read. */
  get unreadable() {
    return this.cells.filter((cell) => cell.error);
  }
}
