"""95 % intervals by the bootstrap over acquisition groups.

A draw is given by the weight of every cell: how often the cell's unit was drawn. There are as many weights as cells
times draws, so they are kept in one byte each, and metrics that need more memory for a cell take one draw at a time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Texts = npt.NDArray[np.str_]
Weights = npt.NDArray[np.generic]
"""(1 + R, N) weights as `resample` returns them, or other numbers."""


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """What is resampled."""

    kind: Literal["groups", "cells"]
    """Cells where some class has too few groups; intervals are then too narrow."""
    names: Texts
    """(N,) the unit of each cell."""
    fewest: int
    """Acquisition groups of the class that has fewest, counting only those that a draw can exchange for another."""


def auc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Weights) -> Floats:
    """Return the (R,) area under the ROC curve under (R, N) weights of cells; ties count half."""
    _, rank = np.unique(scores, return_inverse=True)
    levels, above, beneath = rank.max() + 1, rank[positive], rank[~positive]
    areas = np.empty(len(weights))
    for i, draw in enumerate(weights):
        up = np.bincount(above, draw[positive], levels)
        down = np.bincount(beneath, draw[~positive], levels)
        areas[i] = up @ (np.cumsum(down) - down / 2) / max(up.sum() * down.sum(), 1e-9)
    return areas


def choose_units(groups: Texts, labels: Texts) -> Units:
    """Return the acquisition groups as units, or the cells where some class has no two groups to exchange."""
    names, stratum = _strata(groups, labels)
    exchangeable = np.bincount(stratum)[stratum] > 1
    place = np.searchsorted(names, groups)
    fewest = min(int(exchangeable[np.unique(place[labels == label])].sum()) for label in np.unique(labels))
    if fewest > 1:
        return Units("groups", groups, fewest)
    return Units("cells", np.arange(len(groups)).astype(str), fewest)


def resample(units: Texts, labels: Texts, repeats: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return (1 + R, N) weights: first all ones, then how often each cell's unit was drawn.

    Resampling whole acquisition groups instead of cells is what makes the interval honest (cluster bootstrap, Field and
    Welsh 2007): cells of one group are not independent. A unit is drawn once for all its cells, whatever their classes,
    among the units that hold the same classes, so that no class goes missing.
    """
    rng = np.random.default_rng(seed)
    names, stratum = _strata(units, labels)
    # A byte is enough: among 255 units none is drawn more often, and among more the chance is below 1e-500.
    counts = np.ones((1 + repeats, len(names)), np.uint8)
    for k in range(stratum.max() + 1):
        alike = np.flatnonzero(stratum == k)
        for drawn in counts[1:]:
            drawn[alike] = rng.multinomial(len(alike), np.full(len(alike), 1 / len(alike)))
    return counts[:, np.searchsorted(names, units)]


def _strata(units: Texts, labels: Texts) -> tuple[Texts, npt.NDArray[np.int64]]:
    """Return the (U,) names of the units in order, and for each the index of the set of classes that it holds."""
    names, place = np.unique(units, return_inverse=True)
    classes, which = np.unique(labels, return_inverse=True)
    lacks = np.ones((len(names), len(classes)), bool)
    lacks[place, which] = False
    stratum: npt.NDArray[np.int64] = np.unique(lacks, axis=0, return_inverse=True)[1]
    return names, stratum


def interval(values: Floats) -> Interval:
    """Return the first of (1 + R,) values, with the 2.5 and 97.5 % quantiles of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
