// The composition of a culture, as fatescope/inference/composition.py estimates it: expectation maximisation, and an interval
// from the observed information. tests/page/private/compositions.json holds both to the same answers.

import { eigen } from "./eigen.js";

const MAX_STEPS = 2000;
const CONVERGED = 1e-7;
const RELATIVE_TOLERANCE = 1e-12;
const Z = 1.96;

/**
 * Return class → { share, low, high } of cells that are like the training cells, null where there are none. A cell has its
 * verdict and its probabilities in the order of the classes.
 */
export function compose(cells, { classes, prior, composition_error: error }) {
  const counted = cells.filter(({ verdict }) => verdict !== "unlike_training");
  if (!counted.length) return null;
  const likelihood = counted.map(({ probabilities }) => prior.map((share, k) => probabilities[k] / share));
  const shares = maximiseLikelihood(likelihood, classes.length);
  const spread = covariance(likelihood, shares);
  const bound = (value) => Math.min(1, Math.max(0, value));
  return Object.fromEntries(
    classes.map((name, k) => {
      const margin = Z * Math.sqrt(spread[k] + error[k][k]);
      return [name, { share: shares[k], low: bound(shares[k] - margin), high: bound(shares[k] + margin) }];
    }),
  );
}

const zeros = (size) => Array.from({ length: size }, () => 0);

function maximiseLikelihood(likelihood, size) {
  let shares = Array.from({ length: size }, () => 1 / size);
  for (let step = 0; step < MAX_STEPS; step++) {
    const updated = zeros(size);
    for (const row of likelihood) {
      const sum = row.reduce((total, value, k) => total + value * shares[k], 0);
      for (let k = 0; k < size; k++) updated[k] += (row[k] * shares[k]) / sum / likelihood.length;
    }
    const change = Math.max(...updated.map((value, k) => Math.abs(value - shares[k])));
    shares = updated;
    if (change < CONVERGED) break;
  }
  return shares;
}

/** Return the variances of the shares that shrink with more cells, from the information on the simplex. */
function covariance(likelihood, shares) {
  const plane = directionsOfSimplex(shares.length);
  const size = plane.length;
  const information = Array.from({ length: size }, () => zeros(size));
  for (const row of likelihood) {
    const sum = row.reduce((total, value, k) => total + value * shares[k], 0);
    const slope = plane.map((direction) => direction.reduce((total, value, k) => total + (value * row[k]) / sum, 0));
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) information[i][j] += slope[i] * slope[j];
  }
  const { values, vectors } = eigen(information);
  const most = Math.max(...values);
  return shares.map((_, k) =>
    values.reduce((total, value, j) => {
      // Rounding errors would give directions without information a variance of any size and sign.
      if (value <= RELATIVE_TOLERANCE * most) return total;
      const part = plane.reduce((sum, direction, i) => sum + direction[k] * vectors[i][j], 0);
      return total + (part * part) / value;
    }, 0),
  );
}

// Orthonormal directions along which the sum of the shares is constant.
const directionsOfSimplex = (size) =>
  Array.from({ length: size - 1 }, (_, i) => {
    const length = Math.sqrt((i + 1) * (i + 2));
    return Array.from({ length: size }, (__, k) => (k <= i ? 1 : k === i + 1 ? -(i + 1) : 0) / length);
  });
