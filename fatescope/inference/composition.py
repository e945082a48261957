"""What a culture is made of: the share of each class among many cells, corrected for what the classifier confuses.

Counting calls is biased: a classifier that takes one astrocyte in ten for an oligodendrocyte finds oligodendrocytes in
a pure culture of astrocytes. Expectation maximisation (Saerens, Latinne and Decaestecker 2002) finds the shares under
which the probabilities of all cells are most likely; it holds where probabilities are calibrated and only the mixture
differs from training, not the look of a class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
STEPS, CLOSE = 2000, 1e-7
_Z = 1.96


@dataclass(frozen=True)
class Composition:
    """Shares of a culture, (K,) each; `low` and `high` are a 95 % interval."""

    shares: Floats
    low: Floats
    high: Floats


def estimate(probabilities: Floats, prior: Floats, error: Floats, weights: Floats | None = None) -> Composition:
    """Estimate the shares of the classes among cells of which a classifier gave (n, K) `probabilities`.

    `prior` (K,) are the shares that it takes for granted, `error` (K, K) the covariance of what stays wrong however
    many cells there are (`pipelines.training.calibration`), `weights` (n,) how often each cell counts. The interval
    adds that to the inverse of the observed information.
    """
    counts = np.ones(len(probabilities)) if weights is None else weights
    likelihood = probabilities.astype(np.float64) / prior
    shares = _maximise(likelihood, counts)
    spread = np.sqrt(np.diag(_covariance(likelihood, counts, shares) + error))
    return Composition(shares, np.clip(shares - _Z * spread, 0, 1), np.clip(shares + _Z * spread, 0, 1))


def _maximise(likelihood: Floats, counts: Floats) -> Floats:
    shares: Floats = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(STEPS):
        joint = likelihood * shares
        found: Floats = counts @ (joint / joint.sum(1, keepdims=True)) / counts.sum()
        if np.abs(found - shares).max() < CLOSE:
            return found
        shares = found
    return shares


def _covariance(likelihood: Floats, counts: Floats, shares: Floats) -> Floats:
    """Return the inverse information on the simplex, where shares add up to one."""
    slope = likelihood / (likelihood @ shares)[:, None]
    information = (slope * counts[:, None]).T @ slope
    size = len(shares)
    # An orthonormal basis of the directions that keep the sum.
    plane = np.linalg.svd(np.ones((1, size)))[2][1:].T
    covariance: Floats = plane @ np.linalg.pinv(plane.T @ information @ plane) @ plane.T
    return covariance
