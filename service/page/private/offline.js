// The service worker: answers with what the page has kept (offline-store.js) where the service cannot be reached. It adds nothing
// to that, and lets all other requests be.

const STORE = "fatescope-private";

addEventListener("install", () => self.skipWaiting());
addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin) event.respondWith(answer(event.request));
});

// The store is never opened before it is known to exist, which would create what the page has just deleted.
async function answer(request) {
  const kept = await caches.match(request, { cacheName: STORE, ignoreVary: true });
  // Another content would have another address.
  if (kept?.headers.get("Cache-Control")?.includes("immutable")) return kept;
  try {
    const response = await fetch(request);
    if (kept && response.ok && (await caches.has(STORE)))
      await (await caches.open(STORE)).put(request.url, response.clone());
    return response;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}
