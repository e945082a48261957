"""Tell whether a window of production cells is like the cells that a model knows. Pure: tables in, a report out.

Both tables have the figures of `features.ACQUISITION`, `height` and `width`, the components `e0` and on of the
embedding, `p_CLASS` and `verdict`; the reference, of the bundle, also `group`. Every statistic is an effect size, so
that a large window does not cry wolf over nothing:

| statistic | what it is |
|---|---|
| `ks_FIGURE` | Kolmogorov-Smirnov distance of a figure, 0 to 1 |
| `psi_FIGURE` | its population stability index over the deciles of the reference (Siddiqi 2006) |
| `outside_FIGURE` | share of cells beyond all but a hundredth of the reference |
| `mmd` | distance of the embeddings, among cells called alike: maximum mean discrepancy (Gretton et al. 2012) |
| `classes` | total variation distance of the called classes; a mixture may change without any fault |
| `unsure`, `unlike` | rate of the verdict, above that of the reference |

A threshold belongs to the model and to the size of the window: it is what windows of like cells stay below, all
statistics together, in all but ALPHA of the draws. Half of the draws are cells at random, half are of one acquisition
group, as a laboratory records them: one lamp is no drift where the model knows several. For `classes` the first half
of them counts alone.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta, binom

from pipelines.core import shift
from pipelines.core.features import ACQUISITION
from pipelines.core.judgement import UNLIKE, UNSURE

Floats = npt.NDArray[np.floating]

ALPHA = 0.01
"""Share of windows of like cells that raise a false alarm."""
DRAWS = 400
"""Windows that thresholds are found by."""
FEWEST = 30
"""Cells that a window needs to be judged."""
MIXTURE = ("classes",)
"""Statistics that a culture may move without any fault of the input; they are told, and raise no alarm on input."""
FIGURES = (*ACQUISITION, "height", "width")
"""Columns whose distributions are compared."""
RATES = {"unsure": UNSURE, "unlike": UNLIKE}
"""Statistic → the verdict that it is the rate of."""
_EDGE = 0.005
"""Share of the reference that lies beyond either end of what counts as known."""
_LEAST = 1e-3
_DECILES = np.linspace(0.1, 0.9, 9)
_FEATURES = 256
"""Random Fourier features that stand for the kernel (Rahimi and Recht 2007): the distance is then linear in cells."""
_MARGIN = 1.1
"""Thresholds are this much above what was drawn: the reference has few groups, and others differ a little more."""


@dataclass(frozen=True)
class Finding:
    """One statistic of a window."""

    statistic: str
    value: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Tell whether windows of like cells hardly ever reach it."""
        return self.value > self.threshold


@dataclass(frozen=True)
class Report:
    """What a window is, beside the reference."""

    cells: int
    findings: list[Finding]

    @property
    def input_drift(self) -> list[Finding]:
        """Return what is beyond its threshold and says that the input is another; the worst first."""
        found = [each for each in self.findings if each.drifted and each.statistic not in MIXTURE]
        return sorted(found, key=lambda each: -each.value / max(each.threshold, 1e-9))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "cells": self.cells,
            "drifted": [each.statistic for each in self.input_drift],
            "findings": [asdict(each) | {"drifted": each.drifted} for each in self.findings],
        }


class Detector:
    """What is worked out once for a reference."""

    def __init__(self, reference: pd.DataFrame, seed: int = 0) -> None:
        self._reference = reference.reset_index(drop=True)
        self._components = [name for name in reference.columns if name[0] == "e" and name[1:].isdecimal()]
        self._labels = [name for name in reference.columns if name.startswith("p_")]
        self._rng_seed = seed
        rng = np.random.default_rng(seed)
        embedding = reference[self._components].to_numpy(float)
        scale = _median_distance(embedding, rng)
        self._directions = rng.normal(0, 1 / scale, (embedding.shape[1], _FEATURES))
        self._phases = rng.uniform(0, 2 * np.pi, _FEATURES)
        self._known = self._sample(self._reference)
        self._thresholds: dict[int, dict[str, float]] = {}

    def judge(self, window: pd.DataFrame) -> Report:
        """Compare a window of FEWEST cells or more with the reference."""
        assert len(window) >= FEWEST, len(window)
        thresholds = self.thresholds(len(window))
        measured = measure(self._known, self._sample(window))
        return Report(len(window), [Finding(name, value, thresholds[name]) for name, value in measured.items()])

    def thresholds(self, size: int) -> dict[str, float]:
        """Return what windows of `size` like cells stay below, all together, in all but ALPHA of the draws."""
        # Sizes that differ by little share their draws.
        near = int(2 ** (np.round(np.log2(size) * 2) / 2))
        if near not in self._thresholds:
            drawn = [measure(self._sample(known), self._sample(each)) for known, each in self._draw(near)]
            names = list(drawn[0])
            values = np.array([[each[name] for name in names] for each in drawn])
            mixture = np.isin(names, MIXTURE)
            found = np.zeros(len(names))
            found[~mixture] = _jointly(values[:, ~mixture])
            # A group is mostly of one medium: were its windows like, no mixture could ever be another.
            found[mixture] = _jointly(values[::2, mixture])
            floors = [self._floor(name, near) for name in names]
            self._thresholds[near] = dict(zip(names, np.maximum(found, floors).tolist(), strict=True))
        return self._thresholds[near]

    def _draw(self, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Yield halves of the reference, and windows of like cells outside them; every other is of one group."""
        rng, table = np.random.default_rng(self._rng_seed + size), self._reference
        groups = [rows for rows in table.groupby("group").indices.values() if len(rows) >= FEWEST]
        for number in range(DRAWS):
            order = rng.permutation(len(table))
            known, others = order[: len(table) // 2], order[len(table) // 2 :]
            if number % 2 and len(groups) > 1:
                others = np.intersect1d(others, groups[rng.integers(len(groups))])
            # With replacement: a window may be larger than what it is drawn from.
            yield table.iloc[known], table.iloc[rng.choice(others, size)]

    def _floor(self, statistic: str, size: int) -> float:
        """Return what chance alone makes of a share of odd cells, or of a verdict; 0 for other statistics."""
        total = len(self._reference)
        # Where a figure is always the same, one other cell is beyond all that was drawn.
        if statistic.startswith(("outside_", "ks_", "psi_")):
            rate, offset = 2 * _EDGE, 0.0
        elif statistic in RATES:
            rate = offset = self._known.rates[statistic]
        else:
            return 0.0
        # The upper end of what the rate may be (Clopper and Pearson 1934), and then of a window of it.
        highest = float(beta.ppf(1 - ALPHA, rate * total + 1, total - rate * total))
        share = float(binom.ppf(1 - ALPHA / 10, size, highest)) / size - offset
        if statistic.startswith("psi_"):
            # What such a share adds to a part that was empty.
            return max(0.0, (share - _LEAST) * float(np.log(max(share, _LEAST) / _LEAST)))
        return share

    def _sample(self, table: pd.DataFrame) -> "_Sample":
        called = table[self._labels].to_numpy().argmax(1)
        verdicts = table["verdict"].to_numpy(str)
        angles = table[self._components].to_numpy(float) @ self._directions + self._phases
        return _Sample(
            [np.sort(table[name].to_numpy(float)) for name in FIGURES],
            _by_class(np.cos(angles) * np.sqrt(2 / _FEATURES), called, len(self._labels)),
            np.bincount(called, minlength=len(self._labels)) / len(table),
            {name: float((verdicts == verdict).mean()) for name, verdict in RATES.items()},
        )


@dataclass(frozen=True)
class _Sample:
    """What is asked of a table of cells."""

    figures: list[Floats]
    """Of each of FIGURES the values, ascending."""
    kernel: Floats
    """(K, F) the mean of the kernel's random features over the embeddings of each called class; 0 without any."""
    classes: Floats
    """Share of each called class."""
    rates: dict[str, float]


def measure(known: _Sample, window: _Sample) -> dict[str, float]:
    """Return every statistic of a window beside what is known."""
    found = dict[str, float]()
    for i, name in enumerate(FIGURES):
        before, now = known.figures[i], window.figures[i]
        found[f"ks_{name}"] = shift.distance(before, now)
        found[f"psi_{name}"] = _stability(before, now)
        low, high = np.quantile(before, (_EDGE, 1 - _EDGE))
        found[f"outside_{name}"] = float(((now < low) | (now > high)).mean())
    # A class that either side hardly has says nothing of how its cells look.
    shares = window.classes * (known.classes > 0)
    found["mmd"] = float(np.sqrt((shares * ((known.kernel - window.kernel) ** 2).sum(1)).sum()))
    found["classes"] = float(np.abs(known.classes - window.classes).sum() / 2)
    for name in RATES:
        found[name] = max(0.0, window.rates[name] - known.rates[name])
    return found


def _by_class(mapped: Floats, called: npt.NDArray[np.integer], count: int) -> Floats:
    """Return the (count, F) means of (n, F) over the cells of each called class; 0 for a class without any."""
    held = np.eye(count)[called]
    means: Floats = held.T @ mapped / np.maximum(held.sum(0), 1)[:, None]
    return means


def _stability(before: Floats, now: Floats) -> float:
    """Return the population stability index of sorted samples over the deciles of `before`."""
    edges = np.quantile(before, _DECILES)
    shares = []
    for each in (before, now):
        counts = np.diff(np.concatenate([[0], np.searchsorted(each, edges, side="right"), [len(each)]]))
        # An empty one would make it infinite; the same for both, however many cells they have.
        shares.append(np.maximum(counts / len(each), _LEAST))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _jointly(values: Floats) -> Floats:
    """Return thresholds of (D, S) statistics which all of a draw stay below, in all but ALPHA of the D draws."""
    ordered = np.sort(values, axis=0)
    # The same quantile of each: the lowest at which few enough draws exceed any.
    for place in range(int(len(values) * (1 - ALPHA)) - 1, len(values)):
        chosen = ordered[place]
        if (values > chosen).any(1).mean() <= ALPHA:
            break
    thresholds: Floats = chosen * _MARGIN + 1e-9
    return thresholds


def _median_distance(embedding: Floats, rng: np.random.Generator) -> float:
    """Return the median distance of pairs of (n, C) embeddings: the width of the kernel."""
    some = embedding[rng.choice(len(embedding), min(len(embedding), 500), replace=False)]
    pairs = rng.integers(0, len(some), (2, 2000))
    return float(np.median(np.linalg.norm(some[pairs[0]] - some[pairs[1]], axis=1))) or 1.0
