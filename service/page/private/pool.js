// Workers that classify in this browser: one for each of two cores, as each runs the network in one thread.

import { fetchBundle } from "./bundle-files.js";

const MOST = 4;

class Thread {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.worker.addEventListener("message", ({ data: { id, answer, problem } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (problem === undefined) resolve(answer);
      else reject(new Error(problem));
    });
    this.worker.addEventListener("error", ({ message }) => {
      for (const { reject } of this.waiting.values())
        reject(new Error(`this browser cannot run the model: ${message}`));
      this.waiting.clear();
    });
  }

  /** Return what the worker answers to an action. */
  ask(action, given) {
    const id = crypto.getRandomValues(new Uint32Array(2)).join("-");
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- of a window, not of a worker
      this.worker.postMessage({ id, action, ...given });
    });
  }
}

/** Several workers with one model, which take turns. */
export class Pool {
  /** Load the model of a task; throws an Error where it gives other results in this browser. */
  static async load(task, size = Math.min(MOST, navigator.hardwareConcurrency || 1)) {
    const bundle = await fetchBundle(task);
    const pool = new Pool(
      bundle,
      Array.from({ length: size }, () => new Thread()),
    );
    try {
      await Promise.all(pool.workers.map((worker) => worker.ask("load", bundle.files)));
    } catch (error) {
      pool.close();
      throw error;
    }
    return pool;
  }

  constructor({ spec, version }, workers) {
    Object.assign(this, { spec, version, workers, turn: 0 });
  }

  /** Return the answers for the cells of objects, as `Classifier` takes them, with Blobs. */
  async classify(objects) {
    const worker = this.workers[this.turn++ % this.workers.length];
    return (await worker.ask("classify", { objects })).cells;
  }

  /** Return the answers for the next objects of a native file, which one worker reads from its begin to its end. */
  async native(key, blob, name) {
    return this.workers[0].ask("native", { key, blob, name });
  }

  close() {
    for (const { worker } of this.workers) worker.terminate();
  }
}
