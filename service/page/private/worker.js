// The thread that sees images which must not leave the browser. The service sends this script with a policy of its own, under
// which it can connect to nothing: what it needs comes in messages.

import { Classifier } from "./classifier.js";
import { Network } from "./network.js";
import { readTensors } from "./safetensors.js";

let classifier = null;

const ACTIONS = {
  /** Load a bundle, and check that it gives here what it gave where it was trained. */
  async load({ runtime, graph, spec, outliers, test }) {
    const unpacked = new Response(new Blob([runtime]).stream().pipeThrough(new DecompressionStream("gzip")));
    const network = await Network.load(await unpacked.arrayBuffer(), graph);
    const difference = await network.check(readTensors(test));
    classifier = new Classifier(network, spec, readTensors(outliers));
    return { difference };
  },

  /** Classify objects, whose files are Blobs. */
  async classify({ objects }) {
    const read = async ({ name, blob }) => ({ name, bytes: new Uint8Array(await blob.arrayBuffer()) });
    const whole = [];
    for (const object of objects) whole.push({ ...object, files: await Promise.all(object.files.map(read)) });
    return { cells: await classifier.classify(whole) };
  },
};

addEventListener("message", async ({ data: { id, action, ...given } }) => {
  try {
    postMessage({ id, answer: await ACTIONS[action](given) });
  } catch (error) {
    postMessage({ id, problem: error.message });
  }
});
