// Sends items in chunks, two at a time; a chunk that fails is tried again and never costs the others.

const FILES = 100;
const BYTES = 8e6;
const AT_ONCE = 2;
const TRIES = 5;

export const headers = () => {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
};

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.message);
    Object.assign(this, { status, code: problem.code });
  }
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  const refusal = new Refused(answer.status, problem?.error ?? { code: "unknown", message: `the service answered ${answer.status}` });
  refusal.after = Number(answer.headers.get("Retry-After")) || 0;
  throw refusal;
}

export function inChunks(items) {
  const chunks = [];
  let chunk = [];
  let bytes = 0;
  for (const item of items) {
    if (chunk.length && (chunk.length >= FILES || bytes + item.size > BYTES)) {
      chunks.push(chunk);
      [chunk, bytes] = [[], 0];
    }
    chunk.push(item);
    bytes += item.size;
  }
  if (chunk.length) chunks.push(chunk);
  return chunks;
}

// Calls got(chunk, answer) for each chunk that was answered and lost(chunk, error) for each that was not.
export async function send(items, task, signal, { got, lost, waiting }) {
  const chunks = inChunks(items);
  const worker = async () => {
    for (let chunk = chunks.shift(); chunk && !signal.aborted; chunk = chunks.shift()) {
      try {
        const answer = await sendChunk(chunk, task, signal, { lost, waiting });
        if (answer) got(chunk, answer);
      } catch (error) {
        if (signal.aborted) return;
        lost(chunk, error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function sendChunk(chunk, task, signal, { lost, waiting }) {
  const form = new FormData();
  for (const item of chunk) {
    try {
      form.append("files", await item.read(), item.path);
    } catch (error) {
      lost([item], error);
    }
  }
  if (!form.has("files")) return null;
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await ask(`classify_batch?details=true&task=${encodeURIComponent(task)}`, { method: "POST", body: form, signal });
      return await answer.json();
    } catch (error) {
      if (signal.aborted) throw error;
      // What was refused once will be refused again, unless the service was only busy.
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      if (attempt >= TRIES && navigator.onLine) throw error;
      waiting(navigator.onLine ? "The service is busy; trying again …" : "You are offline; this goes on as soon as you are back.");
      await pause(navigator.onLine ? (error.after || 2 ** (attempt - 1)) * 1000 : 3600e3, signal);
      if (!navigator.onLine) attempt--;
      waiting(null);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(finish, milliseconds);
    function finish() {
      clearTimeout(timer);
      removeEventListener("online", finish);
      signal.removeEventListener("abort", finish);
      done();
    }
    addEventListener("online", finish);
    signal.addEventListener("abort", finish);
  });
}
