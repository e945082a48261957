"""Windows of runs that a reference does not have, drawn from those that it has: what differs between runs, and chance.

A window of R unseen runs has the means of the reference, plus the mean of R *effects* (how far the mean of a group lies
from that of all others), plus what chance adds in that many cells (drawn from the groups with replacement). How much
groups differ is known from few of them, and an effect that is seen is in part chance itself. Both are taken into
account as for a component of variance (Weerahandi 1993): a draw scales all squared effects by f / χ², with f degrees of
freedom, less the share of them that is chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, t

from monitoring.lamps import Lamps
from monitoring.statistics import (
    LEVELS,
    CellFeatures,
    Floats,
    Means,
    Rows,
    compare_features,
    discrepancies,
    excess_rates,
)
from monitoring.thresholds import LEVEL_OF_RUNS

_DRAWS = 2000
"""Windows of each number of runs."""
_RUNS = (1, 2, 4, 8, 16)
"""Numbers of runs in a window."""
_PRIOR = 2
"""Squares that are taken to vary as those of one normal deviate, before any are seen."""


@dataclass(frozen=True)
class Effects:
    """How far each of G groups lies from the others, in S parts that are scaled apart."""

    values: Floats
    """(G, S, …)"""
    chance: Floats
    """(S,) share of the squares that is chance."""
    freedom: Floats
    """(S,) degrees of freedom of the squares."""

    @classmethod
    def of(cls, values: Floats, squares: Floats, noise: Floats) -> "Effects":
        """Return effects whose (G, S) sums of squares are `squares`, of which chance is expected to be `noise`."""
        squares, freedom = squares.astype(float), len(squares) - 1
        mean = np.maximum(squares.mean(0), 1e-30)
        # Satterthwaite (1946): squares that vary less than those of one normal deviate have several directions. Those
        # of few groups vary little by chance, and of two groups not at all: they count beside _PRIOR of one direction.
        variance = ((squares - squares.mean(0)) ** 2).sum(0) + _PRIOR * 2 * mean**2
        directions = 2 * mean**2 * (freedom + _PRIOR) / variance
        return cls(values, np.minimum(noise.mean(0) / mean, 1.0), freedom * np.maximum(directions, 1.0))

    def scale(self, ranks: Floats | None) -> Floats:
        """Return the (D, S, …) factors of effects in draws in which the variance between groups has (D,) `ranks`.

        They are 1 without `ranks`, and where there is no more than one group.
        """
        if ranks is None or not self.freedom.all():
            return np.ones([1] * self.values.ndim)
        inflation = self.freedom / chi2.ppf(ranks[:, None], self.freedom)
        factors: Floats = np.sqrt(np.maximum(inflation - self.chance, 0))
        return factors.reshape(*factors.shape, *[1] * (self.values.ndim - 2))


def find_edges(features: Floats, groups: list[Rows], level: float = LEVEL_OF_RUNS) -> Floats:
    """Return the (F, L) LEVELS of (n, F) features; the ends are those of the range of cells, as those of another run.

    The mean of such a run is beyond what the ends allow for in the share `level` of cases. A share of cells outside
    cannot tell whether a run lies a little or far beyond all others, which it does in two of G + 1 cases: the range
    reaches as far as the mean of another run may lie, and its cells about it.
    """
    edges: Floats = np.quantile(features, LEVELS, axis=0, method="inverted_cdf").T
    if len(groups) > 1:
        means = np.stack([features[rows].mean(0) for rows in groups])
        chance = np.mean([features[rows].var(0) / len(rows) for rows in groups], axis=0)
        spread = np.sqrt(np.maximum(means.var(0, ddof=1) - chance, 0))
        reach = spread * np.sqrt(1 + 1 / len(groups)) * t.ppf(1 - level / 2, len(groups) - 1)
        apart = np.concatenate([features[rows] - mean for rows, mean in zip(groups, means, strict=True)])
        low, high = np.quantile(apart, LEVELS[[0, -1]], axis=0, method="inverted_cdf")
        edges[:, 0] = np.minimum(edges[:, 0], means.mean(0) - reach + low)
        edges[:, -1] = np.maximum(edges[:, -1], means.mean(0) + reach + high)
    return edges


class RunEffects:
    """Draws windows of unseen runs."""

    def __init__(
        self, cells: CellFeatures, edges: Floats, groups: list[Rows], pooled: Means, rates: list[Floats], lamps: Lamps
    ) -> None:
        """Take the reference, (F, L) `edges`, the rows of its groups and, of each, the verdict rates of the others."""
        self._pooled, self._lamps, self._groups = pooled, lamps, groups
        self._names = cells.names
        means = [Means.of(cells.take(rows), edges) for rows in groups]
        self._deviations = [
            self._deviate(cells.take(rows), edges, mean) for rows, mean in zip(groups, means, strict=True)
        ]
        self._light = np.stack([mean.light for mean in means])
        sizes = np.array([len(rows) for rows in groups], float)
        below, verdicts, kernel = [], [], []
        for i, mean in enumerate(means):
            others = pooled.without(mean) if len(groups) > 1 else pooled
            below.append(mean.below - others.below)
            verdicts.append(mean.verdicts - rates[i])
            here = others.counts * mean.counts > 0
            kernel.append((mean.kernel - others.kernel) * here[:, None])
        shares = np.stack([mean.below for mean in means])
        noise = (shares * (1 - shares)).sum(2) / (sizes - 1)[:, None]
        self._below = Effects.of(np.stack(below), (np.stack(below) ** 2).sum(2), noise)
        shares = np.stack([mean.verdicts for mean in means])
        noise = shares * (1 - shares) / (sizes - 1)[:, None]
        self._verdicts = Effects.of(np.stack(verdicts), np.stack(verdicts) ** 2, noise)
        counts = np.stack([mean.counts for mean in means])
        self._reliance = np.sqrt(counts / np.maximum(counts.sum(0), 1))
        self.scatter = self._scatter(counts)
        shares = counts / counts.sum(1, keepdims=True)
        squares = ((np.stack(kernel) ** 2).sum(2) * shares).sum(1, keepdims=True)
        noise = (shares * self.scatter / np.maximum(counts, 1)).sum(1, keepdims=True)
        self._kernel = Effects.of(np.stack(kernel), squares, noise)

    def _scatter(self, counts: Floats) -> Floats:
        """Return the (K,) expected squares of the deviation of one cell from the mean of those of its group."""
        size = self._pooled.kernel.size
        squares = sum((part[:, -size:] ** 2).sum(0) for part in self._deviations)
        freedom = np.maximum(counts.sum(0) - (counts > 0).sum(0), 1)
        scatter: Floats = np.reshape(squares, self._pooled.kernel.shape).sum(1) / freedom
        return scatter

    @staticmethod
    def _deviate(cells: CellFeatures, edges: Floats, mean: Means) -> Floats:
        """Return (n, …) deviations of every quantity of the cells of a group from its mean, side by side."""
        apart = cells.predicted[:, :, None] * (cells.kernel[:, None, :] - mean.kernel)
        parts = (
            cells.below(edges) - mean.below,
            cells.verdicts - mean.verdicts,
            cells.light - mean.light,
            cells.predicted,
            apart,
        )
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32)

    def draw_runs(self, cells: int, rng: np.random.Generator) -> Iterator[tuple[Floats, dict[str, Floats]]]:
        """Yield (D,) concentrations and statistic → (D,) values of windows of unseen runs, by number of runs."""
        # Where lamps do not tell, any window may be one run.
        for runs in _RUNS if self._lamps.tell else (1,):
            # By chance, some runs have more of the cells than others.
            sizes = rng.multinomial(cells, np.full(runs, 1 / runs), _DRAWS)
            yield self._draw(rng.integers(len(self._groups), size=(_DRAWS, runs)), sizes, rng, unseen=True)

    def draw_like(self, cells: int, rng: np.random.Generator) -> dict[str, Floats]:
        """Return statistic → (D,) values of windows of like cells, mixed as those of the reference."""
        groups = np.tile(np.arange(len(self._groups)), (_DRAWS, 1))
        counts = np.array([len(rows) for rows in self._groups])
        return self._draw(groups, rng.multinomial(cells, counts / counts.sum(), _DRAWS), rng, unseen=False)[1]

    def _draw(
        self, chosen: Rows, sizes: Rows, rng: np.random.Generator, *, unseen: bool
    ) -> tuple[Floats, dict[str, Floats]]:
        """Draw windows of (D, R) groups with (D, R) `sizes` in cells."""
        count, cells = len(self._groups), int(sizes[0].sum())
        classes, size = self._pooled.kernel.shape
        shares = np.zeros((_DRAWS, count))
        sums = np.zeros((_DRAWS, self._deviations[0].shape[1]), np.float32)
        counts = np.zeros((_DRAWS, count, classes))
        for group, deviations in enumerate(self._deviations):
            of_group = (sizes * (chosen == group)).sum(1)
            shares[:, group] = of_group / cells
            windows = np.flatnonzero(of_group)
            chances = np.full(len(deviations), 1 / len(deviations))
            drawn = rng.multinomial(of_group[windows], chances).astype(np.float32) @ deviations
            sums[windows] += drawn
            end = drawn.shape[1] - classes * size
            counts[windows, group] = drawn[:, end - classes : end]
        total = counts.sum(1)
        ends = np.cumsum([self._pooled.below.size, self._pooled.verdicts.size, self._light.shape[1], classes])
        below, verdicts, light, _, kernel = np.split(sums / cells, ends, axis=1)
        # The means of the reference have errors of their own.
        known = self._pooled.counts
        widening = np.sqrt(1 + cells / known.sum())
        below = below.reshape(_DRAWS, *self._pooled.below.shape) * widening
        kernel = kernel.reshape(_DRAWS, classes, size) * cells / np.maximum(total, 1)[:, :, None]
        kernel *= np.sqrt(1 + total / np.maximum(known, 1))[:, :, None]
        ranks = rng.random(_DRAWS) if unseen else None
        moved = below + np.tensordot(shares, self._below.values, 1) * self._below.scale(ranks)
        verdicts = verdicts * widening + shares @ self._verdicts.values * self._verdicts.scale(ranks)
        values = compare_features(self._names, self._pooled.below, moved) | excess_rates(verdicts)
        weights = (counts / np.maximum(total, 1)[:, None]).transpose(2, 0, 1)
        if unseen:
            # A run of its own, not one of few: effects of all groups, weighed by chance and by the cells behind them.
            normal = rng.standard_normal((_DRAWS, count, count))
            weights = (weights[:, :, None] @ normal)[:, :, 0] * self._reliance.T[:, None]
        effects = (weights @ self._kernel.values.swapaxes(0, 1)).swapaxes(0, 1)
        values["mmd"] = discrepancies(kernel + effects * self._kernel.scale(ranks), self.scatter, total, known)
        return self._lamps.concentration(light + shares @ self._light, cells), values
