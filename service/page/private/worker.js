// The thread that sees images which must not leave the browser. The service sends this script with a policy of its own, under
// which it can connect to nothing: what it needs comes in messages.

import { Classifier } from "./classifier.js";
import { Network } from "./network.js";
import { ImageError } from "./image-error.js";
import { NativeFile } from "./native-file.js";
import { readTensors } from "./safetensors.js";

const OBJECTS = 100; // of a native file that are answered at a time

let classifier = null;
const natives = new Map(); // key → NativeFile, as far as it was read

const failureOf = (file, { code, message }) => ({
  sample: null,
  file,
  page: null,
  object: null,
  upload: null,
  error: { code, message, file },
});

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

  /** Classify the next objects of the native file that `key` names, a Blob; `at` is where they end, null at its end. */
  async native({ key, blob, name }) {
    try {
      if (!natives.has(key)) natives.set(key, await NativeFile.open(blob, name, classifier.spec));
      const native = natives.get(key);
      const { objects, ended, problem } = await native.next(OBJECTS);
      const cells = await classifier.classifyNative(native, objects);
      if (problem) cells.push(failureOf(name, problem));
      return { cells, objects: native.objects, at: ended ? null : native.directory.offset };
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return { cells: [failureOf(name, error)], objects: null, at: null };
    }
  },
};

addEventListener("message", async ({ data: { id, action, ...given } }) => {
  try {
    postMessage({ id, answer: await ACTIONS[action](given) });
  } catch (error) {
    postMessage({ id, problem: error.message });
  }
});
