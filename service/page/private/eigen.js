// Eigenvalues and eigenvectors of a small symmetric matrix, by Jacobi's rotations.

const MAX_SWEEPS = 60;

/** Return { values, vectors } of a symmetric matrix; vectors[i][j] is element i of the vector of value j. */
export function eigen(symmetric) {
  const matrix = symmetric.map((row) => [...row]);
  const size = matrix.length;
  const vectors = matrix.map((_, i) => matrix.map((__, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let rest = 0;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        rest += Math.abs(matrix[p][q]);
        if (matrix[p][q] !== 0) rotate(matrix, vectors, p, q);
      }
    }
    if (rest === 0) break;
  }
  return { values: matrix.map((row, i) => row[i]), vectors };
}

function rotate(matrix, vectors, p, q) {
  const size = matrix.length;
  const ratio = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
  const tangent = Math.sign(ratio || 1) / (Math.abs(ratio) + Math.hypot(ratio, 1));
  const cosine = 1 / Math.hypot(tangent, 1);
  const sine = tangent * cosine;
  const turn = (first, second) => [cosine * first - sine * second, sine * first + cosine * second];
  for (let k = 0; k < size; k++) [matrix[k][p], matrix[k][q]] = turn(matrix[k][p], matrix[k][q]);
  for (let k = 0; k < size; k++) [matrix[p][k], matrix[q][k]] = turn(matrix[p][k], matrix[q][k]);
  for (let k = 0; k < size; k++) [vectors[k][p], vectors[k][q]] = turn(vectors[k][p], vectors[k][q]);
  matrix[p][q] = matrix[q][p] = 0;
}
