// Requests to the service that serves this page.

const KEY = "key";

/** An HTTP error response: `status`, the service's `code` and message, and `retryAfter` in seconds. */
export class RequestError extends Error {
  constructor(status, { code, message }, retryAfter) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** Keep the API key for this tab. */
export const saveKey = (key) => sessionStorage.setItem(KEY, key);

/** Return whether this tab has an API key. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

let answerHere = () => null;

/** Let `answer(path, options)` respond to requests in place of the service where it does not return null. */
export function answerRequests(answer) {
  answerHere = answer;
}

/** Return the response to a request; throws a RequestError where it is not a success. */
export async function request(path, options = {}) {
  const here = await answerHere(String(path), options);
  if (here) return here;
  const key = sessionStorage.getItem(KEY);
  const authorization = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers: { ...authorization, ...options.headers } });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = body?.error ?? { code: "unknown", message: `the service responded with status ${response.status}` };
  throw new RequestError(response.status, error, Number(response.headers.get("Retry-After")) || 0);
}

/** POST an object as JSON. */
export function postJSON(path, body) {
  return request(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  });
}

/** Return the path with the task in its query. */
export const forTask = (path, task) => `${path}${path.includes("?") ? "&" : "?"}task=${encodeURIComponent(task)}`;
