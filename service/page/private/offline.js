// The service worker: answers with what the page has kept (offline-store.js) where the service cannot be reached. It adds nothing
// to that, and lets all other requests be.

const STORE = "fatescope-private";

addEventListener("install", () => self.skipWaiting());
addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin) event.respondWith(answer(event.request));
});

async function answer(request) {
  const store = await caches.open(STORE);
  const kept = await store.match(request, { ignoreVary: true });
  // Another content would have another address.
  if (kept?.headers.get("Cache-Control")?.includes("immutable")) return kept;
  try {
    const response = await fetch(request);
    if (kept && response.ok) await store.put(request.url, response.clone());
    return response;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}
