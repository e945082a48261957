"""95 % intervals of metrics on few acquisition groups: a jackknife over groups, with Student's t.

Cells of one group are right or wrong together, so that the group is the unit. Each metric is computed again without
each group in turn; how far these values scatter, among groups that hold the same classes, is its standard error
(delete-one-group jackknife for strata, Shao and Tu 1995). With few groups that error is itself uncertain, which
Student's t allows for, with the degrees of freedom of Welch (1947). A metric with a range is put on the scale of normal
quantiles (probit), on which groups scatter evenly: intervals then stay within the range and hold near its ends.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from fatescope import plural

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

LEVEL = 0.95
MIN_GROUPS = 3
"""Fewest acquisition groups of each class for an interval."""
MAX_UNITS = 100
"""Units that are left out in turn, among those that hold the same classes; more groups are left out several at once."""
SHARE, DIFFERENCE = (0.0, 1.0), None
"""Ranges of metrics, for `interval`."""
ALL_ALIKE = "every acquisition group gives the same value"
"""Why a metric has no interval although there are enough groups."""
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """A metric with its interval; both ends are the value where it is the same without any unit."""

    value: float
    low: float
    high: float

    @property
    def degenerate(self) -> bool:
        """Return whether nothing is known of how far the metric scatters."""
        return self.low == self.high


@dataclass(frozen=True)
class Units:
    """U units, each of which is left out in turn."""

    kind: Literal["groups", "cells"]
    """Acquisition groups, or cells where some class has a single group; intervals then hold for these groups alone."""
    place: Indices
    """(N,) index of each cell's unit."""
    stratum: Indices
    """(U,) the units of a stratum hold the same classes."""
    fewest: int
    """Acquisition groups of the class that has fewest."""
    scarce: str
    """That class."""

    def among(self, rows: npt.NDArray[np.bool_]) -> "Units":
        """Return the units of those of the N cells that are in `rows`."""
        return Units(self.kind, self.place[rows], self.stratum, self.fewest, self.scarce)

    def sums(self, values: Floats | None = None, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> Floats:
        """Return the (U,) sums of (n,) `values` of the cells in `rows`; by default the numbers of cells."""
        weights = None if values is None else values
        sums: Floats = np.bincount(self.place[rows], weights, len(self.stratum)).astype(float)
        return sums


def choose_units(groups: Texts, labels: Texts, cells: npt.NDArray[np.int64] | None = None) -> Units:
    """Return the acquisition groups of (N,) images as units, or the cells where some class has a single group.

    Images of one cell are equal in `cells`; None where each is of another.
    """
    units = make_units(groups, labels)
    if units.fewest > 1:
        return units
    alone = make_units((np.arange(len(groups)) if cells is None else cells).astype(str), labels)
    return Units("cells", alone.place, alone.stratum, units.fewest, units.scarce)


def make_units(groups: Texts, labels: Texts) -> Units:
    """Return the (N,) `groups` as units."""
    names, place = np.unique(groups, return_inverse=True)
    classes, which = np.unique(labels, return_inverse=True)
    holds = np.zeros((len(names), len(classes)), bool)
    holds[place, which] = True
    counts = holds.sum(0)
    stratum = _stratify(holds)
    fewest = int(counts.argmin())
    block, of_block = _join(stratum)
    return Units("groups", block[place], of_block, int(counts[fewest]), str(classes[fewest]))


def why_none(units: Units) -> str | None:
    """Return why there is no interval, if so."""
    if units.fewest >= MIN_GROUPS:
        return None
    return f"{plural.count(units.fewest, 'acquisition group')} of class {units.scarce}; three are needed"


def _stratify(holds: npt.NDArray[np.bool_]) -> Indices:
    """Return the (G,) stratum of groups that hold the classes `holds` (G, K).

    A set of classes that one group alone holds is put with the set that is most like it: there is nothing else that
    could tell how far such a group may be off.
    """
    sets, found = np.unique(~holds, axis=0, return_inverse=True)
    stratum: Indices = found.ravel().astype(np.int64)
    for alone in range(len(sets)):
        if (members := stratum == alone).sum() == 1:
            common = np.where(stratum == alone, 0, (holds & holds[members]).sum(1))
            if common.max() > 0:
                stratum[members] = stratum[common.argmax()]
    numbered: Indices = np.unique(stratum, return_inverse=True)[1].ravel().astype(np.int64)
    return numbered


def _join(stratum: Indices) -> tuple[Indices, Indices]:
    """Return the (G,) unit of groups, MAX_UNITS at most of a stratum, and the (U,) stratum of each unit."""
    unit, strata, rng = np.empty_like(stratum), list[int](), np.random.default_rng(_SEED)
    for k in range(stratum.max() + 1):
        members = np.flatnonzero(stratum == k)
        count = min(len(members), MAX_UNITS)
        dealt = np.arange(len(members)) % count
        unit[members] = len(strata) + (dealt if count == len(members) else rng.permutation(dealt))
        strata += [k] * count
    return unit, np.array(strata, np.int64)


@dataclass(frozen=True)
class Spread:
    """How far a metric may be off by chance."""

    error: float
    """Standard error; 0 where the metric is the same without any unit."""
    freedom: float
    """Degrees of freedom of that error."""

    def quantile(self, share: float) -> float:
        """Return how far above the truth the metric is at most in this share of draws."""
        return float(stats.t.ppf(share, self.freedom)) * self.error if self.error else 0.0


def spread(values: Floats, units: Units) -> Spread:
    """Return the spread of a metric, given (1 + U,) values: of all cells, then without each unit."""
    sizes = np.bincount(units.stratum)
    without = values[1:]
    means = np.bincount(units.stratum, without) / sizes
    squares = np.bincount(units.stratum, (without - means[units.stratum]) ** 2)
    variances = squares * (sizes - 1) / sizes
    # Rounding of sums is no spread.
    variances[variances < 1e-24] = 0
    variance, several = variances.sum(), sizes > 1
    if not variance:
        return Spread(0.0, float((sizes - 1).sum()))
    # Not Satterthwaite's, which come out too low where groups are few: the variances are themselves uncertain.
    freedom = variance**2 / (variances[several] ** 2 / (sizes[several] + 1)).sum() - 2
    return Spread(float(np.sqrt(variance)), float(min(freedom, (sizes - 1).sum())))


def interval(
    values: Floats, units: Units, bounds: tuple[float, float] | None = SHARE, level: float = LEVEL
) -> Interval:
    """Return the interval of a metric, given (1 + U,) values: of all cells, then without each unit.

    `bounds` is the range of the metric; None for the difference of two, which is taken as it is.
    """
    value, half = float(values[0]), spread(values, units).quantile((1 + level) / 2)
    if not half:
        return Interval(value, value, value)
    if bounds is None:
        return Interval(value, value - half, value + half)
    bottom, width = bounds[0], bounds[1] - bounds[0]
    place = stats.norm.ppf(np.clip((value - bottom) / width, 1e-9, 1 - 1e-9))
    reach = half / width / stats.norm.pdf(place)
    low, high = bottom + width * stats.norm.cdf([place - reach, place + reach])
    return Interval(value, float(low), float(high))


def counts_without(targets: Indices, predicted: Indices, units: Units, size: int) -> Floats:
    """Return (1 + U, K, K) confusion counts, true class by row: of all cells, then without each unit."""
    count = len(units.stratum)
    by_unit = np.bincount((units.place * size + targets) * size + predicted, minlength=count * size**2)
    return _without(by_unit.reshape(count, size, size).astype(float))


def mean_without(values: Floats, targets: Indices, weights: Floats, units: Units) -> Floats:
    """Return the (1 + U,) weighted mean of (N,) `values`: of all cells, then without each unit.

    Classes keep the shares that the (N,) `weights` give them.
    """
    means = np.zeros(1 + len(units.stratum))
    for k in np.unique(targets):
        rows = targets == k
        weight, weighted = (units.sums(v[rows], rows) for v in (weights, weights * values))
        mean = _without(weighted) / np.maximum(_without(weight), 1e-12)
        means += mean * weights[rows].sum() / weights.sum()
    return means


def auc_without(scores: Floats, positive: npt.NDArray[np.bool_], units: Units) -> Floats:
    """Return the (1 + U,) area under the ROC curve of all cells, then without each unit; ties count half."""
    won, lost = _pairs_won(scores, positive)
    ups, downs = units.sums(None, positive), units.sums(None, ~positive)
    pairs = units.sums(won, positive) + units.sums(lost, ~positive)
    for unit in np.flatnonzero((ups > 0) & (downs > 0)):
        rows = units.place == unit
        pairs[unit] -= _pairs_won(scores[rows], positive[rows])[0].sum()
    total = won.sum()
    areas: Floats = np.append(total, total - pairs) / np.maximum(_without(ups) * _without(downs), 1e-9)
    return areas


def _pairs_won(scores: Floats, positive: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return over how many negative cells each positive one is ranked, and below how many positive each negative."""
    _, rank = np.unique(scores, return_inverse=True)
    ups, downs = (np.bincount(rank[rows], minlength=rank.max() + 1) for rows in (positive, ~positive))
    below, above = np.cumsum(downs) - downs / 2, ups.sum() - np.cumsum(ups) + ups / 2
    return below[rank[positive]], above[rank[~positive]]


def _without(by_unit: Floats) -> Floats:
    """Return (1 + U, …) sums over all units, then without each, of (U, …) values by unit."""
    total = by_unit.sum(0, keepdims=True)
    sums: Floats = np.concatenate([total, total - by_unit])
    return sums
