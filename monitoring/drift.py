"""Tell whether a window of production cells is like the cells that a model knows. Pure: tables in, a report out.

Both tables have the figures of `features.ACQUISITION`, `height` and `width`, the components `e0` and on of the
embedding, `p_CLASS` and `verdict`; the reference, of the bundle, also `group` and `seen`. Every statistic is an effect
size, so that a large window does not cry wolf over nothing:

| statistic | what it is |
|---|---|
| `ks_FIGURE` | Kolmogorov-Smirnov distance of a figure, 0 to 1 |
| `psi_FIGURE` | its population stability index over the deciles of the reference (Siddiqi 2006) |
| `outside_FIGURE` | share of cells beyond all but a hundredth of the reference |
| `mmd` | distance of the embeddings, among cells called alike: maximum mean discrepancy (Gretton et al. 2012) |
| `novelty` | the same, but only where the groups of the reference do not differ already: how a new medium is found |
| `classes` | total variation distance of the called classes; a mixture may change without any fault |
| `unsure`, `unlike` | rate of the verdict, above that of the reference |

A threshold belongs to the model and to the size of the window: it is what windows of like cells stay below, all
statistics together, in all but ALPHA of the draws. Half of the draws are cells that the model was not fitted on; half
are of one acquisition group, as a laboratory records them: one lamp is no drift where the model knows several. For
`classes` the first half of them counts alone. Rates are compared with those of cells that the model was not fitted on.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, binom

from monitoring.statistics import (
    EDGE,
    FIGURES,
    LEAST,
    RATES,
    CellFeatures,
    Floats,
    Rows,
    Sample,
    Space,
    Sums,
    compare,
    rates,
    sample,
)

ALPHA = 0.01
"""Share of windows of like cells that raise a false alarm."""
DRAWS = 400
"""Windows that thresholds are found by."""
FEWEST = 30
"""Cells that a window needs to be judged."""
LARGEST = 2_000
"""Larger windows have the thresholds of this size: what groups differ by is left, not chance."""
MIXTURE = ("classes",)
"""Statistics that a culture may move without any fault of the input; they are told, and raise no alarm on input."""
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
        self._components = [name for name in reference.columns if name[0] == "e" and name[1:].isdecimal()]
        self._labels = [name for name in reference.columns if name.startswith("p_")]
        self._seed = seed
        rng = np.random.default_rng(seed)
        embedding = reference[self._components].to_numpy(float)
        scale = _median_distance(embedding, rng)
        self._directions = rng.normal(0, 1 / scale, (embedding.shape[1], _FEATURES))
        self._phases = rng.uniform(0, 2 * np.pi, _FEATURES)
        self._reference = self._cells(reference)
        grouped = map(np.asarray, reference.groupby("group").indices.values())
        self._groups = [rows for rows in grouped if len(rows) >= FEWEST]
        # Bundles of before this was kept have cells in their reference that none of the fits saw.
        self._unseen = ~reference["seen"].to_numpy(bool) if "seen" in reference else np.ones(len(reference), bool)
        self._known = self._sample(np.arange(len(reference)))
        self._sums = Sums.of(self._reference)
        self._group_sums = [Sums.of(self._reference.of(rows)) for rows in self._groups]
        self._space = self._without(None)
        self._thresholds: dict[int, dict[str, float]] = {}

    def evaluate(self, window: pd.DataFrame) -> Report:
        """Compare a window of FEWEST cells or more with the reference."""
        assert len(window) >= FEWEST, len(window)
        thresholds = self.thresholds(len(window))
        cells = self._cells(window)
        measured = compare(self._known, sample(cells)) | {"novelty": self._space.novelty(cells)}
        return Report(len(window), [Finding(name, value, thresholds[name]) for name, value in measured.items()])

    def thresholds(self, size: int) -> dict[str, float]:
        """Return what windows of `size` like cells stay below, all together, in all but ALPHA of the draws."""
        # Sizes that differ by little share their draws.
        near = int(2 ** (np.round(np.log2(min(size, LARGEST)) * 2) / 2))
        if near not in self._thresholds:
            drawn = list(self._draw(near))
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

    def _draw(self, size: int) -> Iterator[dict[str, float]]:
        """Yield the statistics of windows of up to `size` like cells; every other window is of one group."""
        rng, everything = np.random.default_rng(self._seed + size), np.arange(len(self._unseen))
        unseen, without = np.flatnonzero(self._unseen), dict[int | None, Space]()
        for number in range(DRAWS):
            chosen = int(rng.integers(len(self._groups))) if number % 2 and len(self._groups) > 1 else None
            source = rng.permutation(unseen if chosen is None else self._groups[chosen])
            # The other half of the group stays: its lamp is one that the model knows.
            window = source[: min(size, len(source) // 2)]
            known = self._sample(np.setdiff1d(everything, window, assume_unique=True))
            found = compare(known, sample(self._reference.of(window)))
            if chosen not in without:
                without[chosen] = self._without(chosen)
            yield found | {"novelty": without[chosen].novelty(self._reference.of(source[:size]))}

    def _without(self, group: int | None) -> Space:
        """Return the space of the reference without one of its groups."""
        if group is None:
            return Space.of(self._sums, self._group_sums)
        gone = self._group_sums[group]
        left = Sums(self._sums.kernel - gone.kernel, self._sums.counts - gone.counts)
        return Space.of(left, self._group_sums[:group] + self._group_sums[group + 1 :])

    def _floor(self, statistic: str, size: int) -> float:
        """Return what chance alone makes of a share of odd cells, or of a verdict; 0 for other statistics."""
        total = int(self._unseen.sum())
        # Where a figure is always the same, one other cell is beyond all that was drawn.
        if statistic.startswith(("outside_", "ks_", "psi_")):
            rate, offset = 2 * EDGE, 0.0
        elif statistic in RATES:
            rate = offset = float(self._known.rates[list(RATES).index(statistic)])
        else:
            return 0.0
        # The upper end of what the rate may be (Clopper and Pearson 1934), and then of a window of it.
        highest = float(beta.ppf(1 - ALPHA, rate * total + 1, total - rate * total))
        share = float(binom.ppf(1 - ALPHA / 10, size, highest)) / size - offset
        if statistic.startswith("psi_"):
            # What such a share adds to a part that was empty.
            return max(0.0, (share - LEAST) * float(np.log(max(share, LEAST) / LEAST)))
        return share

    def _sample(self, rows: Rows) -> Sample:
        """Return what is asked of `rows` of the reference."""
        found = sample(self._reference.of(rows))
        return replace(found, rates=rates(self._reference.of(rows[self._unseen[rows]])))

    def _cells(self, table: pd.DataFrame) -> CellFeatures:
        angles = table[self._components].to_numpy(float) @ self._directions + self._phases
        verdicts = table["verdict"].to_numpy(str)
        return CellFeatures(
            table[list(FIGURES)].to_numpy(float),
            np.cos(angles) * np.sqrt(2 / _FEATURES),
            np.eye(len(self._labels))[table[self._labels].to_numpy().argmax(1)],
            np.stack([verdicts == verdict for verdict in RATES.values()], axis=1),
        )


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
