// The cells that the service asks people to label: which of this run are among them, and how to ask for more.

import { forTask, request } from "./api.js";
import { showCells } from "./cells.js";
import { byId } from "./dom.js";
import { queueSentence } from "./sentences.js";
import { state } from "./state.js";

// The service keeps no prediction log, and so has no queue; or the key of this person may not label.
const WITHOUT_QUEUE = new Set(["no_records", "scope"]);

/** Mark the cells of a run that wait for a label with their place in the queue; return how many there are. */
export function markQueued(cells, waiting) {
  const byAnswer = new Map(waiting.map(({ id }, place) => [id, place]));
  // The same image may have been sent before, and was drawn then.
  const byImage = new Map(waiting.map(({ image_hash }, place) => [image_hash, place]));
  let count = 0;
  for (const cell of cells) {
    cell.queued = byAnswer.get(cell.id) ?? byImage.get(cell.image_hash);
    if (cell.queued !== undefined) count++;
  }
  return count;
}

async function show(run, answer) {
  const here = markQueued(run.classified, answer.cells);
  byId("queue").hidden = false;
  byId("queue-text").textContent = queueSentence(answer, here);
  byId("queue-filter").hidden = !here;
  if (!here) byId("by-queue").checked = false;
  byId("draw").hidden = answer.cells.length > 0;
  showCells(run);
}

/** Ask which cells wait for a label, and show those of the run; with `draw`, ask for a new batch first. */
export async function showQueue(run, { draw = false } = {}) {
  try {
    const answer = await (await request(forTask("queue", run.model.task), { method: draw ? "POST" : "GET" })).json();
    if (run === state.run) await show(run, answer);
  } catch (error) {
    byId("queue").hidden = WITHOUT_QUEUE.has(error.code);
    byId("queue-text").textContent = `The cells to label next could not be asked for: ${error.message}`;
  }
}

/** Connect the button and the filter. */
export function initQueue() {
  byId("draw").addEventListener("click", () => state.run && showQueue(state.run, { draw: true }));
  byId("by-queue").addEventListener("change", () => state.run && showCells(state.run));
}
