// Read the tensors of a safetensors file: a length, a header in JSON, and the bytes of all tensors.

const TYPES = { F32: Float32Array, F64: Float64Array, U16: Uint16Array, U8: Uint8Array, I32: Int32Array };
const LENGTH = 8;

/** Return name → { shape, values } of the tensors in an ArrayBuffer; throws an Error for another file. */
export function readTensors(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, LENGTH, size)));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (!TYPES[dtype]) throw new Error(`the tensor ${name} is of type ${dtype}`);
    const [start, stop] = offsets.map((offset) => LENGTH + size + offset);
    tensors[name] = { shape, values: new TYPES[dtype](buffer.slice(start, stop)) };
  }
  return tensors;
}
