// Masks of an image: { bits, height, width }, with bits that are 0 or 1. They are as fatescope/data/cell_quality.py and components.py
// have them, of one image at a time, with a pixel around the crop that is not of it.

/** Return a mask whose bits are what `bitAt(i)` says. */
export const maskOf = ({ height, width }, bitAt) => {
  const bits = new Uint8Array(height * width);
  for (let i = 0; i < bits.length; i++) bits[i] = bitAt(i) ? 1 : 0;
  return { bits, height, width };
};

export function not({ bits, height, width }) {
  const other = new Uint8Array(bits.length);
  for (let i = 0; i < bits.length; i++) other[i] = bits[i] ^ 1;
  return { bits: other, height, width };
}

export function and({ bits, height, width }, { bits: others }) {
  const both = new Uint8Array(bits.length);
  for (let i = 0; i < bits.length; i++) both[i] = bits[i] & others[i];
  return { bits: both, height, width };
}

export function count({ bits }) {
  let sum = 0;
  for (let i = 0; i < bits.length; i++) sum += bits[i];
  return sum;
}

/** Return a mask grown by 1 px to all eight sides, or to four without the `corners`. */
export function dilate({ bits, height, width }, corners = true) {
  const rows = bits.slice();
  for (let i = width; i < bits.length; i++) rows[i] |= bits[i - width];
  for (let i = 0; i < bits.length - width; i++) rows[i] |= bits[i + width];
  const source = corners ? rows : bits;
  const grown = rows.slice();
  for (let start = 0; start < bits.length; start += width) {
    for (let i = start + 1; i < start + width; i++) grown[i] |= source[i - 1];
    for (let i = start; i < start + width - 1; i++) grown[i] |= source[i + 1];
  }
  return { bits: grown, height, width };
}

/** Return the number of the connected part of each pixel, from 1 in the order of their first pixels, and their sizes. */
export function findParts({ bits, width }) {
  const [parts, sizes, stack] = [new Int32Array(bits.length), [0], []];
  for (let first = 0; first < bits.length; first++) {
    if (!bits[first] || parts[first]) continue;
    const part = sizes.push(0) - 1;
    parts[first] = part;
    stack.push(first);
    const visit = (next) => {
      if (!bits[next] || parts[next]) return;
      parts[next] = part;
      stack.push(next);
    };
    while (stack.length) {
      const i = stack.pop();
      sizes[part]++;
      const x = i % width;
      if (x > 0) visit(i - 1);
      if (x < width - 1) visit(i + 1);
      if (i >= width) visit(i - width);
      if (i < bits.length - width) visit(i + width);
    }
  }
  return { parts, sizes };
}
