"""Thresholds that keep a promise on new cells: of conformal sets, and of the distance of cells unlike the training.

Both are order statistics of calibration cells, one place further out than their share, so that the promise holds for
cells drawn like them (Vovk 2012).
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]


def conformal(probabilities: Floats, targets: Indices, coverage: float) -> list[float]:
    """Return for each class the probability that `coverage` of its cells reach; 0 where it has too few cells.

    `probabilities` (n, K) are of n cells of the (n,) classes `targets`.
    """
    thresholds = []
    for k in range(probabilities.shape[1]):
        reached = np.sort(probabilities[targets == k, k])[::-1]
        position = math.ceil((len(reached) + 1) * coverage)
        thresholds.append(float(reached[position - 1]) if position <= len(reached) else 0.0)
    return thresholds


def upper_quantile(scores: Floats, share: float) -> float:
    """Return the score that a `share` of cells stay below; the highest one where there are too few cells."""
    position = math.ceil((len(scores) + 1) * share)
    return float(np.sort(scores)[min(position, len(scores)) - 1])
