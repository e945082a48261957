// The graph of a bundle in ONNX Runtime, compiled to WebAssembly: one thread, which every browser allows without
// cross-origin isolation. Several workers work beside each other instead.

import * as ort from "./onnxruntime-web-1.30.0/ort.mjs";

/** The largest difference of a logit from its test tensor, as in fatescope/inference/bundle.py. */
export const TOLERANCE = 1e-3;

export class Network {
  /** Start the runtime from its bytes, an ArrayBuffer, and load the bytes of a graph. */
  static async load(runtime, graph) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = runtime;
    const session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
    return new Network(session);
  }

  constructor(session) {
    this.session = session;
  }

  /** Return { logits, embedding }, each rows of values, for cells whose pixels have the `shape` (B, C, H, W). */
  async run(pixels, shape) {
    const input = new ort.Tensor("float32", pixels, shape);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: input }, ["logits", "embedding"]);
    return { logits: rowsOf(outputs.logits), embedding: rowsOf(outputs.embedding) };
  }

  /** Throw an Error unless the test tensors of the bundle give the logits that they gave where it was trained. */
  async check({ pixels, logits }) {
    const { shape } = pixels;
    const whole = shape.length === 3 ? [shape[0], 1, ...shape.slice(1)] : shape;
    const outputs = await this.run(Float32Array.from(pixels.values), whole);
    const found = outputs.logits.flatMap((row) => [...row]);
    const difference = found.reduce((most, value, i) => Math.max(most, Math.abs(value - logits.values[i])), 0);
    // Written so that NaN fails.
    if (found.length === logits.values.length && difference <= TOLERANCE) return difference;
    throw new Error(
      `the test cells of this model give other results in this browser (logits differ by ${difference.toPrecision(2)}); ` +
        "use another browser, or send the images to the service",
    );
  }
}

function rowsOf({ data, dims }) {
  const width = data.length / dims[0];
  return Array.from({ length: dims[0] }, (_, i) => data.subarray(i * width, (i + 1) * width));
}
