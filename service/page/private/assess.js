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
export function assess(probabilities, away, spec) {
  const { classes, conformal } = spec;
  const best = probabilities.indexOf(Math.max(...probabilities));
  const members = classes.filter((_, k) => k === best || probabilities[k] >= fround(conformal[k]));
  return {
    label: classes[best],
    probabilities: Object.fromEntries(classes.map((name, k) => [name, probabilities[k]])),
    conformal_set: members,
    coarse: away > 1 ? null : coarseCall(classes[best], members, probabilities, spec),
    verdict: away > 1 ? "unlike_training" : members.length > 1 ? "unsure" : "sure",
    distance: away,
  };
}

// The coarse class of the most probable class, where an unsure cell reaches its threshold; older models have none, and call
// by the conformal set. Null where there is no such coarse class.
function coarseCall(best, members, probabilities, { classes, hierarchy = {}, coarse_thresholds: thresholds }) {
  const [label, joined] = Object.entries(hierarchy).find(([, names]) => names.includes(best)) ?? [];
  if (!label) return null;
  const sum = classes.reduce((total, name, k) => total + (joined.includes(name) ? probabilities[k] : 0), 0);
  const probability = Math.min(sum, 1);
  const reaches = thresholds
    ? probability >= (thresholds[label] ?? Infinity)
    : members.every((name) => joined.includes(name));
  return members.length === 1 || reaches ? { label, probability } : null;
}
