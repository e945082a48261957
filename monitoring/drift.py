"""Compare a window of production cells with the cells that a model knows. Pure: tables in, a report out.

Both tables have the features of `features.ACQUISITION`, `height` and `width`, the components `e0`, `e1`, ... of the
embedding, `p_CLASS` and `verdict`; the reference, from the bundle, also `group` and `seen`. Every statistic is an
effect size, so that a large window does not raise an alarm over a negligible difference:

| statistic | meaning |
|---|---|
| `ks_FEATURE` | Kolmogorov-Smirnov distance between the distributions of a feature, 0 to 1 |
| `psi_FEATURE` | population stability index over the deciles of the reference (Siddiqi 2006) |
| `outside_FEATURE` | share of cells outside the range of all but a hundredth of the reference |
| `mmd` | maximum mean discrepancy of the embeddings (Gretton et al. 2012) among cells predicted alike |
| `novelty` | the same, orthogonal to the directions along which groups of the reference differ: finds new media |
| `classes` | total variation distance between the predicted classes; a mixture may change without any fault |
| `unsure`, `unlike` | excess of the rate of the verdict over that of the reference |

A threshold belongs to the model and to the size of the window: windows of like cells stay below all thresholds together
in all but ALPHA of the draws. Half of the draws are cells that the model was not fitted on; half come from one
acquisition group, as a laboratory records them, because one lamp is no drift where the model knows several. The
threshold of `classes` rests on the first half alone. Rates of verdicts are compared with those of cells that the model
was not fitted on.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from monitoring.statistics import (
    FEATURES,
    VERDICT_RATES,
    CellFeatures,
    ClassSums,
    EmbeddingSpace,
    Floats,
    Rows,
    Summary,
    compare,
    summarise,
    verdict_rates,
)
from monitoring.thresholds import floor, joint_thresholds

MIN_CELLS = 30
"""Cells that a window needs to be evaluated."""
MAX_CELLS = 2_000
"""Larger windows have the thresholds of this size: what is left then is the difference between groups, not chance."""
DRAWS = 400
"""Windows of like cells from which thresholds are computed."""
MIXTURE = ("classes",)
"""Statistics that the composition of a culture may change; they are reported, and raise no alarm about the input."""
_KERNEL_FEATURES = 256
"""Random Fourier features that approximate a Gaussian kernel (Rahimi and Recht 2007)."""


@dataclass(frozen=True)
class Finding:
    """One statistic of a window."""

    statistic: str
    value: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Return whether the value is above its threshold."""
        return self.value > self.threshold

    @property
    def ratio(self) -> float:
        """Return the value as a multiple of its threshold."""
        return self.value / max(self.threshold, 1e-9)


@dataclass(frozen=True)
class Report:
    """All statistics of a window."""

    cells: int
    findings: list[Finding]

    @property
    def input_drift(self) -> list[Finding]:
        """Return the findings above their thresholds that mean that the input has changed; the worst first."""
        drifted = [finding for finding in self.findings if finding.drifted and finding.statistic not in MIXTURE]
        return sorted(drifted, key=lambda finding: -finding.ratio)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {
            "cells": self.cells,
            "drifted": [finding.statistic for finding in self.input_drift],
            "findings": [asdict(finding) | {"drifted": finding.drifted} for finding in self.findings],
        }


class Detector:
    """Compares windows with one reference."""

    def __init__(self, reference: pd.DataFrame, seed: int = 0) -> None:
        self._components = [name for name in reference.columns if name[0] == "e" and name[1:].isdecimal()]
        self._probabilities = [name for name in reference.columns if name.startswith("p_")]
        self._seed = seed
        rng = np.random.default_rng(seed)
        embedding = reference[self._components].to_numpy(float)
        self._frequencies = rng.normal(0, 1 / _median_distance(embedding, rng), (embedding.shape[1], _KERNEL_FEATURES))
        self._phases = rng.uniform(0, 2 * np.pi, _KERNEL_FEATURES)
        self._reference = self._to_features(reference)
        grouped = map(np.asarray, reference.groupby("group").indices.values())
        self._groups = [rows for rows in grouped if len(rows) >= MIN_CELLS]
        # Older bundles, without this column, have only cells in their reference that the model was not fitted on.
        self._unseen = ~reference["seen"].to_numpy(bool) if "seen" in reference else np.ones(len(reference), bool)
        self._summary = self._summarise(np.arange(len(reference)))
        self._sums = ClassSums.of(self._reference)
        self._group_sums = [ClassSums.of(self._reference.take(rows)) for rows in self._groups]
        self._space = self._space_without(None)
        self._thresholds: dict[int, dict[str, float]] = {}

    def evaluate(self, window: pd.DataFrame) -> Report:
        """Compare a window of at least MIN_CELLS cells with the reference."""
        assert len(window) >= MIN_CELLS, len(window)
        thresholds, cells = self.thresholds(len(window)), self._to_features(window)
        values = compare(self._summary, summarise(cells)) | {"novelty": self._space.novelty(cells)}
        return Report(len(window), [Finding(name, value, thresholds[name]) for name, value in values.items()])

    def thresholds(self, size: int) -> dict[str, float]:
        """Return statistic → the threshold for windows of about `size` cells."""
        # Sizes within a factor of about 1.2 share their draws.
        nominal = int(2 ** (np.round(np.log2(min(size, MAX_CELLS)) * 2) / 2))
        if nominal not in self._thresholds:
            draws = list(self._draw_windows(nominal))
            names = list(draws[0])
            values = np.array([[draw[name] for name in names] for draw in draws])
            mixture = np.isin(names, MIXTURE)
            thresholds = np.zeros(len(names))
            thresholds[~mixture] = joint_thresholds(values[:, ~mixture])
            # Without the windows of one group, which is mostly of one medium: with them, no mixture could ever drift.
            thresholds[mixture] = joint_thresholds(values[::2, mixture])
            unseen, rates = int(self._unseen.sum()), self._summary.verdict_rates
            floors = [floor(name, nominal, unseen, rates) for name in names]
            self._thresholds[nominal] = dict(zip(names, np.maximum(thresholds, floors).tolist(), strict=True))
        return self._thresholds[nominal]

    def _draw_windows(self, size: int) -> Iterator[dict[str, float]]:
        """Yield the statistics of DRAWS windows of up to `size` like cells; every other window is of one group."""
        rng, everything = np.random.default_rng(self._seed + size), np.arange(len(self._unseen))
        unseen, spaces = np.flatnonzero(self._unseen), dict[int | None, EmbeddingSpace]()
        for draw in range(DRAWS):
            group = int(rng.integers(len(self._groups))) if draw % 2 and len(self._groups) > 1 else None
            source = rng.permutation(unseen if group is None else self._groups[group])
            # The other half of the group stays in the reference: the model knows its lamp.
            window = source[: min(size, len(source) // 2)]
            rest = self._summarise(np.setdiff1d(everything, window, assume_unique=True))
            values = compare(rest, summarise(self._reference.take(window)))
            if group not in spaces:
                spaces[group] = self._space_without(group)
            yield values | {"novelty": spaces[group].novelty(self._reference.take(source[:size]))}

    def _space_without(self, group: int | None) -> EmbeddingSpace:
        """Return the embedding space of the reference without one of its groups."""
        if group is None:
            return EmbeddingSpace.of(self._sums, self._group_sums)
        others = self._group_sums[:group] + self._group_sums[group + 1 :]
        return EmbeddingSpace.of(self._sums.without(self._group_sums[group]), others)

    def _summarise(self, rows: Rows) -> Summary:
        """Summarise `rows` of the reference, with verdict rates of those that the model was not fitted on."""
        rates = verdict_rates(self._reference.take(rows[self._unseen[rows]]))
        return replace(summarise(self._reference.take(rows)), verdict_rates=rates)

    def _to_features(self, table: pd.DataFrame) -> CellFeatures:
        angles = table[self._components].to_numpy(float) @ self._frequencies + self._phases
        verdicts = table["verdict"].to_numpy(str)
        return CellFeatures(
            table[list(FEATURES)].to_numpy(float),
            np.cos(angles) * np.sqrt(2 / _KERNEL_FEATURES),
            np.eye(len(self._probabilities))[table[self._probabilities].to_numpy().argmax(1)],
            np.stack([verdicts == verdict for verdict in VERDICT_RATES.values()], axis=1),
        )


def _median_distance(embedding: Floats, rng: np.random.Generator) -> float:
    """Return the median distance between pairs of (n, C) embeddings, which is the bandwidth of the kernel."""
    rows = embedding[rng.choice(len(embedding), min(len(embedding), 500), replace=False)]
    pairs = rng.integers(0, len(rows), (2, 2000))
    return float(np.median(np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1))) or 1.0
