// Fetch the files of a bundle and the runtime, and check that they are what the spec names.

import { request } from "../api.js";

const RUNTIME = new URL("onnxruntime-web-1.30.0/ort.wasm.gz", import.meta.url);
const FILES = { graph: "model.onnx", outliers: "outliers.safetensors", test: "test.safetensors" };

const folderOf = (task) => `bundle/${encodeURIComponent(task)}`;
const pathOf = (task, spec, name) => `${folderOf(task)}/${name}?sha256=${spec.hashes[name]}`;

/** Return the addresses of the files of a bundle with this spec. */
export const bundlePaths = (task, spec) => [
  `${folderOf(task)}/spec.json`,
  ...Object.values(FILES).map((name) => pathOf(task, spec, name)),
];

/** Return { spec, version, files } of the model of a task that is in service. */
export async function fetchBundle(task) {
  const response = await request(`${folderOf(task)}/spec.json`);
  const version = response.headers.get("X-Model-Version");
  const spec = await response.json();
  const files = { spec, runtime: await fetchRuntime() };
  for (const [part, name] of Object.entries(FILES)) {
    files[part] = await (await request(pathOf(task, spec, name))).arrayBuffer();
    await verify(files[part], spec.hashes[name], name);
  }
  return { spec, version, files };
}

async function fetchRuntime() {
  const response = await fetch(RUNTIME);
  if (!response.ok) throw new Error(`the runtime cannot be loaded: status ${response.status}`);
  return response.arrayBuffer();
}

// Browsers have hashes over HTTPS and on localhost only; the test tensors are checked everywhere.
async function verify(buffer, expected, name) {
  if (!crypto.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error(`${name} was changed on its way here; load the page again`);
}
