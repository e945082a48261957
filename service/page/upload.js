// Send items in chunks, two at a time; a chunk that fails is tried again and does not affect the others.

import { forTask, request, RequestError } from "./api.js";
import { partsOf } from "./files.js";

const MAX_FILES = 100;
const MAX_BYTES = 8e6;
const CONCURRENT = 2;
const MAX_ATTEMPTS = 5;
const TOO_MANY_REQUESTS = 429;

/** Divide items into chunks of at most `maxFiles` and, where one item alone is not larger, MAX_BYTES. */
export function intoChunks(items, maxFiles = MAX_FILES) {
  const chunks = [];
  let chunk = [];
  let bytes = 0;
  for (const item of items) {
    if (chunk.length && (chunk.length >= maxFiles || bytes + item.size > MAX_BYTES)) {
      chunks.push(chunk);
      [chunk, bytes] = [[], 0];
    }
    chunk.push(item);
    bytes += item.size;
  }
  if (chunk.length) chunks.push(chunk);
  return chunks;
}

/**
 * Classify items with a model, as /models describes it, and resolve when all chunks have ended.
 * Calls onResponse(chunk, response), in which each cell has its `item`, and onFailure(items, error), and onWait(reason) before a pause, onWait(null) after.
 */
export async function classifyInChunks(items, model, signal, handlers) {
  const chunks = intoChunks(items, Math.min(MAX_FILES, model.max_cells));
  const worker = async () => {
    for (let chunk = chunks.shift(); chunk && !signal.aborted; chunk = chunks.shift()) {
      try {
        const response = await classifyChunk(chunk, model.task, signal, handlers);
        if (response) handlers.onResponse(chunk, response);
      } catch (error) {
        if (signal.aborted) return;
        handlers.onFailure(chunk, error);
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT }, worker));
}

async function classifyChunk(chunk, task, signal, { onFailure, onWait }) {
  const body = new FormData();
  const sent = [];
  for (const item of chunk) {
    try {
      // All of a cell before any is sent.
      const parts = partsOf(item);
      const files = await Promise.all(parts.map((part) => part.item.read()));
      for (const [i, file] of files.entries()) {
        body.append("files", file, parts[i].item.path);
        sent.push(item);
      }
    } catch (error) {
      onFailure([item], error);
    }
  }
  if (!sent.length) return null;
  const path = forTask("classify_batch?details=true", task);
  const send = async () => (await request(path, { method: "POST", body, signal })).json();
  const response = await retry(send, signal, onWait);
  // By position, because files of several zips may have the same path.
  for (const cell of response.cells ?? []) cell.item = sent[cell.upload];
  return response;
}

/** Return what `attempt` resolves to, after further attempts where the service is busy or away. */
export async function retry(attempt, signal, onWait) {
  for (let attempts = 1; ; attempts++) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted || isFinal(error)) throw error;
      if (attempts >= MAX_ATTEMPTS && navigator.onLine) throw error;
      const seconds = error.retryAfter || 2 ** (attempts - 1);
      onWait(
        navigator.onLine
          ? "The service is busy; trying again …"
          : "You are offline; sending resumes when you are online again.",
      );
      await pause(navigator.onLine ? seconds * 1000 : 3600e3, signal);
      if (!navigator.onLine) attempts--;
      onWait(null);
    }
  }
}

// A request that was refused will be refused again, unless the service was only busy.
const isFinal = (error) =>
  error instanceof RequestError &&
  (error.code === "timeout" || (error.status < 500 && error.status !== TOO_MANY_REQUESTS));

/** Wait for the time given, or until the browser is online again or the run is cancelled. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(finish, milliseconds);
    function finish() {
      clearTimeout(timer);
      removeEventListener("online", finish);
      signal.removeEventListener("abort", finish);
      resolve();
    }
    addEventListener("online", finish);
    signal.addEventListener("abort", finish);
  });
}
