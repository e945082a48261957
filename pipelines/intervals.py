"""Figures with 95 % intervals, by drawing acquisition groups again and again."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def balanced_accuracy(called: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the (R,) mean share of each class that is called right, under (R, N) weights of cells."""
    right = called == truth
    shares = [
        (weights[:, (truth == k) & right].sum(1)) / np.maximum(weights[:, truth == k].sum(1), 1e-9)
        for k in np.unique(truth)
    ]
    mean: Floats = np.mean(shares, axis=0)
    return mean


def auc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the (R,) area under the ROC curve under (R, N) weights of cells; ties count half."""
    _, rank = np.unique(scores, return_inverse=True)
    levels = rank.max() + 1
    up = np.stack([np.bincount(rank[positive], w[positive], levels) for w in weights])
    down = np.stack([np.bincount(rank[~positive], w[~positive], levels) for w in weights])
    below = np.cumsum(down, axis=1) - down / 2
    area: Floats = (up * below).sum(1) / np.maximum(up.sum(1) * down.sum(1), 1e-9)
    return area


def resample(units: Texts, strata: Texts, repeats: int, seed: int) -> Floats:
    """Return (1 + R, N) weights: first all ones, then how often each cell's unit was drawn, within its stratum.

    Drawing whole acquisition groups, not cells, is what makes the interval honest (cluster bootstrap, Field and Welsh
    2007): cells of one group are not independent.
    """
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + repeats, len(units)))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        names, index = np.unique(units[rows], return_inverse=True)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
        weights[1:, rows] = drawn[:, index]
    return weights


def interval(values: Floats) -> Interval:
    """Return the first value, with the 2.5 and 97.5 % quantiles of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
