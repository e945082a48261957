// Send native files of instruments in slices: neither the page nor the service ever holds such a file whole.
// The service says after each request which bytes it needs next, and keeps nothing itself.

import { forTask, request } from "./api.js";
import { retry } from "./upload.js";

const FIRST_BYTES = 8e6;

/**
 * Classify native files, one after the other, and resolve when all have ended.
 * `next` of an item says how to go on with it: null after its end, undefined before its begin. Calls onSlices(item,
 * response), which returns whether to go on with the file, and onFailure and onWait as `classifyInChunks` does.
 */
export async function classifyNatives(items, model, signal, handlers) {
  for (const item of items) {
    try {
      await classifyNative(item, model.task, signal, handlers);
    } catch (error) {
      if (signal.aborted) return;
      handlers.onFailure([item], error);
    }
  }
}

async function classifyNative(item, task, signal, { onSlices, onWait }) {
  if (item.next === undefined) {
    item.next = { cursor: null, slices: [{ start: 0, stop: Math.min(FIRST_BYTES, item.size) }] };
  }
  while (item.next && !signal.aborted) {
    const { path, body } = await readSlices(item);
    const send = async () => (await request(forTask(path, task), { method: "POST", body, signal })).json();
    const response = await retry(send, signal, onWait);
    // Together with the answer, so that no cell comes twice where the file is sent again.
    item.next = response.next;
    if (!onSlices(item, response)) item.next = null;
  }
}

async function readSlices(item) {
  const { cursor, slices } = item.next;
  const query = new URLSearchParams({ name: item.path, size: item.size, details: true });
  if (cursor) query.set("cursor", cursor);
  const body = new FormData();
  for (const { start, stop } of slices) {
    query.append("offset", start);
    body.append("slices", await read(item, start, stop));
  }
  return { path: `classify_slices?${query}`, body };
}

async function read(item, start, stop) {
  try {
    // Now, because a file that cannot be read any more would look like a service that cannot be reached.
    return new Blob([await item.slice(start, stop).arrayBuffer()]);
  } catch {
    throw new Error(`${item.path} cannot be read any more; choose it again`);
  }
}
