"""The composition of a culture: the share of each class among many cells, corrected for misclassification.

Counting predicted classes is biased: a classifier that mistakes one astrocyte in ten for an oligodendrocyte finds
oligodendrocytes in a pure culture of astrocytes. Expectation maximisation (Saerens, Latinne and Decaestecker 2002)
finds the shares under which the probabilities of all cells are most likely. It is valid where probabilities are
calibrated and only the mixture differs from training, not the appearance of a class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
MAX_STEPS, CONVERGED = 2000, 1e-7
"""Most steps of the expectation maximisation, and the change of a share at which it ends."""
_RELATIVE_TOLERANCE = 1e-12
"""Smallest information along a direction, relative to the largest, that is more than rounding error."""
_Z = 1.96
MIXTURES = 200
"""Number of simulated cultures that the error of a composition is learned from."""
GROUP_CELLS = 5_000
"""Cells of a class in a group that simulated cultures are drawn of: shares among so many are off by 0.007 by chance,
and acquisition groups differ by more. All of millions of cells would take minutes."""


@dataclass(frozen=True)
class Composition:
    """Class shares of a culture, (K,) each; `low` and `high` are the bounds of a 95 % interval."""

    shares: Floats
    low: Floats
    high: Floats


def estimate(probabilities: Floats, prior: Floats, error: Floats, weights: Floats | None = None) -> Composition:
    """Estimate the class shares among cells for which a classifier gave (n, K) `probabilities`.

    `prior` (K,) are the class shares that the classifier assumes, `error` (K, K) is the covariance of the error that
    does not shrink with more cells (`learn_error`), and `weights` (n,) how often each cell counts.
    The covariance behind the interval is `error` plus the inverse of the observed information.
    """
    shares = maximise_likelihood(probabilities, prior, weights)
    spread = np.sqrt(np.diag(covariance(probabilities, prior, shares, weights) + error))
    return Composition(shares, np.clip(shares - _Z * spread, 0, 1), np.clip(shares + _Z * spread, 0, 1))


def maximise_likelihood(probabilities: Floats, prior: Floats, weights: Floats | None = None) -> Floats:
    """Return the (K,) class shares under which the probabilities of all cells are most likely."""
    counts = np.ones(len(probabilities)) if weights is None else weights
    likelihood = probabilities.astype(np.float64) / prior
    shares: Floats = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(MAX_STEPS):
        joint = likelihood * shares
        updated: Floats = counts @ (joint / joint.sum(1, keepdims=True)) / counts.sum()
        if np.abs(updated - shares).max() < CONVERGED:
            return updated
        shares = updated
    return shares


def covariance(probabilities: Floats, prior: Floats, shares: Floats, weights: Floats | None = None) -> Floats:
    """Return the (K, K) covariance of `shares` that shrinks with more cells.

    It is the inverse of the observed information on the simplex, where shares add up to one.
    """
    counts = np.ones(len(probabilities)) if weights is None else weights
    likelihood = probabilities.astype(np.float64) / prior
    slope = likelihood / (likelihood @ shares)[:, None]
    information = (slope * counts[:, None]).T @ slope
    size = len(shares)
    # An orthonormal basis of the directions along which the sum is constant.
    plane = np.linalg.svd(np.ones((1, size)))[2][1:].T
    values, vectors = np.linalg.eigh(plane.T @ information @ plane)
    # Rounding errors would give directions without information a variance of any size and sign.
    informative = values > _RELATIVE_TOLERANCE * values.max()
    root = plane @ (vectors[:, informative] / np.sqrt(values[informative]))
    spread: Floats = root @ root.T
    return spread


def learn_error(
    probabilities: Floats, targets: npt.NDArray[np.int64], groups: npt.NDArray[np.generic], prior: Floats, seed: int
) -> Floats:
    """Return the (K, K) mean squared error of the compositions of simulated cultures.

    `probabilities` (n, K) are of n cells that the classifier was not fitted on, of the (n,) classes `targets` and
    acquisition `groups`. A culture is mostly recorded in one run: for each of MIXTURES cultures of random composition,
    the cells of a class are those of one group, drawn at random. The error that remains is the difference between
    groups.
    """
    rng, size = np.random.default_rng(seed), probabilities.shape[1]
    total, cells = np.zeros((size, size)), rows_by_group(targets, groups)
    for _ in range(MIXTURES):
        truth = rng.dirichlet(np.ones(size))
        drawn = [of_class[rng.integers(len(of_class))] for of_class in cells.values()]
        weights = [
            np.full(len(rows), truth[k] / len(rows) * len(targets)) for k, rows in zip(cells, drawn, strict=True)
        ]
        chosen = probabilities[np.concatenate(drawn)]
        shares = maximise_likelihood(chosen, prior, np.concatenate(weights))
        total += np.outer(shares - truth, shares - truth)
    mean: Floats = total / MIXTURES
    return mean


def rows_by_group(
    targets: npt.NDArray[np.integer], groups: npt.NDArray[np.generic]
) -> dict[int, list[npt.NDArray[np.int64]]]:
    """Return class → up to GROUP_CELLS of its rows, evenly spaced, in each of the acquisition groups that have some."""
    number = np.unique(groups, return_inverse=True)[1]
    cells = dict[int, list[npt.NDArray[np.int64]]]()
    for k in np.unique(targets).tolist():
        of_class = np.flatnonzero(targets == k)
        of_class = of_class[np.argsort(number[of_class], kind="stable")]
        ends = np.flatnonzero(np.diff(number[of_class])) + 1
        cells[k] = [_some(rows) for rows in np.split(of_class, ends)]
    return cells


def _some(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if len(rows) <= GROUP_CELLS:
        return rows
    some: npt.NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, GROUP_CELLS).astype(int)]
    return some
