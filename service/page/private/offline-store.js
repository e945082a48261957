// Keep in the browser what the page needs to classify without a network: itself, and the model. Nothing of a cell is kept.

import { request } from "../api.js";
import { bundlePaths } from "./bundle-files.js";

const STORE = "fatescope-private"; // as in offline.js
const REFERENCE = /(?:from|import|new URL\(|src=|href=)\s*"([^"]+)"/g;
const READ = /(?:\/|\.html|\.js)$/; // what may refer to further files of the page
const MOST = 400; // files of the page

/** Keep the page and the model of a task, whose spec is given; return whether the page then works without a network. */
export async function keep(task, spec) {
  // Browsers have neither over HTTP, but on localhost.
  if (!navigator.serviceWorker || !globalThis.caches) return false;
  const script = new URL("offline.js", import.meta.url);
  const registration = await navigator.serviceWorker.register(script, { scope: new URL("../../", script) });
  if (!registration) return false;
  const store = await caches.open(STORE);
  const kept = new Set(await keepPage(store));
  const data = ["models", `examples/${encodeURIComponent(task)}`, ...bundlePaths(task, spec)];
  for (const path of data) {
    await store.put(path, await request(path));
    kept.add(new URL(path, location).href);
  }
  // What belongs to an earlier version of the page or of the model.
  for (const { url } of await store.keys()) if (!kept.has(url)) await store.delete(url);
  await navigator.serviceWorker.ready;
  return true;
}

/** Forget all that was kept. */
export async function forget() {
  if (!navigator.serviceWorker || !globalThis.caches) return;
  await caches.delete(STORE);
  const registration = await navigator.serviceWorker.getRegistration();
  await registration?.unregister();
}

// The page with all that its files refer to; returns their addresses.
async function keepPage(store) {
  const root = new URL("../../", import.meta.url);
  const found = [root.href, new URL("worker.js", import.meta.url).href];
  for (let i = 0; i < found.length && found.length < MOST; i++) {
    const response = await fetch(found[i]);
    if (!response.ok) throw new Error(`${found[i]} cannot be kept: status ${response.status}`);
    if (READ.test(found[i])) {
      for (const [, path] of (await response.clone().text()).matchAll(REFERENCE)) {
        const { href } = new URL(path, found[i]);
        if (href.startsWith(`${root.href}page/`) && !found.includes(href)) found.push(href);
      }
    }
    await store.put(found[i], response);
  }
  return found;
}
