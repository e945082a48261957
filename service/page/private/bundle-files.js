// Fetch the files of a bundle and the runtime, and check that they are what the spec names.

import { request } from "../api.js";

const RUNTIME = new URL("onnxruntime-web-1.30.0/ort.wasm.gz", import.meta.url);
const FILES = { graph: "model.onnx", outliers: "outliers.safetensors", test: "test.safetensors" };

/** Return { spec, version, files } of the model of a task that is in service. */
export async function fetchBundle(task) {
  const folder = `bundle/${encodeURIComponent(task)}`;
  const response = await request(`${folder}/spec.json`);
  const version = response.headers.get("X-Model-Version");
  const spec = await response.json();
  const files = { spec, runtime: await (await request(RUNTIME)).arrayBuffer() };
  for (const [part, name] of Object.entries(FILES)) {
    const sha256 = spec.hashes[name];
    files[part] = await (await request(`${folder}/${name}?sha256=${sha256}`)).arrayBuffer();
    await verify(files[part], sha256, name);
  }
  return { spec, version, files };
}

// Browsers have hashes over HTTPS and on localhost only; the test tensors are checked everywhere.
async function verify(buffer, expected, name) {
  if (!crypto.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error(`${name} was changed on its way here; load the page again`);
}
