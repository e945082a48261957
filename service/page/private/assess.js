// Probabilities, conformal sets, distances and verdicts, as fatescope/inference/uncertainty.py and ood.py compute them.
// tests/page/private/assessments.json holds both to the same answers.

const { fround, sqrt } = Math;

/** Return the probabilities of the logits of one cell. */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Float32Array.from(logits, (logit) => Math.exp(fround(logit - most)));
  const sum = fround(powers.reduce((total, power) => total + power, 0));
  return powers.map((power) => power / sum);
}

/**
 * Return the distance of an embedding from the training cells, divided by the threshold of the model. `outliers` are the
 * tensors of the bundle: means (K, C), directions (C, r), variances (r) and rest (1).
 */
export function distance(embedding, { means, directions, variances, rest }, threshold) {
  const [size, width] = directions.shape;
  let nearest = Infinity;
  for (let k = 0; k < means.shape[0]; k++) {
    const along = new Float64Array(width);
    let length = 0;
    for (let i = 0; i < size; i++) {
      const deviation = embedding[i] - means.values[k * size + i];
      length += deviation * deviation;
      for (let j = 0; j < width; j++) along[j] += deviation * directions.values[i * width + j];
    }
    let [squares, explained] = [0, 0];
    for (let j = 0; j < width; j++) {
      squares += (along[j] * along[j]) / variances.values[j];
      explained += along[j] * along[j];
    }
    nearest = Math.min(nearest, squares + Math.max(length - explained, 0) / rest.values[0]);
  }
  return fround(fround(sqrt(nearest / size)) / fround(threshold));
}

/** Return { label, probabilities, conformal_set, coarse, verdict, distance } of a cell, as the service does. */
export function assess(probabilities, away, { classes, conformal, hierarchy = {} }) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const members = classes.filter((_, k) => k === best || probabilities[k] >= fround(conformal[k]));
  return {
    label: classes[best],
    probabilities: Object.fromEntries(classes.map((name, k) => [name, probabilities[k]])),
    conformal_set: members,
    coarse: away > 1 ? null : coarseCall(members, probabilities, classes, hierarchy),
    verdict: away > 1 ? "unlike_training" : members.length > 1 ? "unsure" : "sure",
    distance: away,
  };
}

// The coarse class that has all classes of the conformal set; null where there is none.
function coarseCall(members, probabilities, classes, hierarchy) {
  for (const [label, joined] of Object.entries(hierarchy)) {
    if (!members.every((name) => joined.includes(name))) continue;
    const sum = classes.reduce((total, name, k) => total + (joined.includes(name) ? probabilities[k] : 0), 0);
    return { label, probability: Math.min(sum, 1) };
  }
  return null;
}
