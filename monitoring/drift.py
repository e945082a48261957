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

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from monitoring.lamps import Lamps
from monitoring.run_effects import RunEffects
from monitoring.spaces import KERNEL_FEATURES
from monitoring.statistics import (
    FEATURES,
    LEVELS,
    VERDICT_RATES,
    CellFeatures,
    Floats,
    Means,
    Rows,
    compare_features,
    compare_shares,
    excess_rates,
)
from monitoring.thresholds import Table, floor, joint_thresholds

MIN_CELLS = 30
"""Cells that a window needs to be evaluated."""
SIZES = (30, 60, 120, 250, 500, 1000, 2000)
"""Windows, in cells, whose thresholds are computed; those between follow, and larger ones have those of the largest."""
MAX_GROUPS = 40
"""Groups from which runs are drawn; of more, these many at even steps."""
DRAWS = 1000
"""Windows of like cells from which the threshold of a mixture is computed."""
MIXTURE = ("classes",)
"""Statistics that the composition of a culture may change; they are reported, and raise no alarm about the input."""


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
        self._frequencies = rng.normal(0, 1 / _median_distance(embedding, rng), (embedding.shape[1], KERNEL_FEATURES))
        self._phases = rng.uniform(0, 2 * np.pi, KERNEL_FEATURES)
        # Older bundles, without this column, have only cells in their reference that the model was not fitted on.
        self._unseen = ~reference["seen"].to_numpy(bool) if "seen" in reference else np.ones(len(reference), bool)
        grouped = [
            rows for rows in map(np.asarray, reference.groupby("group").indices.values()) if len(rows) >= MIN_CELLS
        ]
        groups = (
            [grouped[i] for i in np.unique(np.linspace(0, len(grouped) - 1, MAX_GROUPS).astype(int))]
            if grouped
            else [np.arange(len(reference))]
        )
        features = reference[list(FEATURES)].to_numpy(float)
        self._lamps = Lamps.of(features, groups)
        cells = self._to_features(reference)
        self._edges = np.quantile(features, LEVELS, axis=0, method="inverted_cdf").T
        self._means = Means.of(cells, self._edges)
        self._rates = cells.verdicts[self._unseen].mean(0)
        self._class_shares = cells.predicted[self._unseen].mean(0)
        self._runs = RunEffects(
            cells, self._edges, groups, self._means, self._rates_without(cells, groups), self._lamps
        )
        self._tables: dict[int, Table] = {}

    def evaluate(self, window: pd.DataFrame) -> Report:
        """Compare a window of at least MIN_CELLS cells with the reference."""
        assert len(window) >= MIN_CELLS, len(window)
        means = Means.of(self._to_features(window), self._edges)
        values = compare_features(self._means.below, means.below - self._means.below)
        values |= excess_rates(means.verdicts - self._rates)
        difference = (means.embedding - self._means.embedding) * (means.counts > 0)[:, None]
        for name, space in self._runs.spaces.items():
            values[name] = space.distances(space.apply(difference[None]), means.counts[None], self._means.counts)[0]
        values["classes"] = compare_shares(self._means.shares, means.shares)
        thresholds = self.thresholds(len(window), float(self._lamps.concentration(means.light, len(window))))
        return Report(len(window), [Finding(name, float(value), thresholds[name]) for name, value in values.items()])

    def thresholds(self, size: int, concentration: float = 1.0) -> dict[str, float]:
        """Return statistic → the threshold for windows of `size` cells that are imaged alike to that degree."""
        size = min(size, SIZES[-1])
        place = next(i for i, larger in enumerate(SIZES) if larger >= size)
        large = self._table(SIZES[place])
        values = large.thresholds(concentration)
        if size < SIZES[place]:
            smaller = SIZES[place - 1]
            # Chance falls with the root of the number of cells.
            roots = 1 / np.sqrt([smaller, size, SIZES[place]])
            excess = np.maximum(self._table(smaller).thresholds(concentration) - values, 0)
            values = values + excess * (roots[1] - roots[2]) / (roots[0] - roots[2])
        unseen = int(self._unseen.sum())
        return {
            name: max(float(value), floor(name, size, unseen, self._rates))
            for name, value in zip(large.names, values, strict=True)
        }

    def _table(self, size: int) -> Table:
        if size not in self._tables:
            rng = np.random.default_rng(self._seed + size)
            drawn = list(self._runs.draw(size, rng))
            concentrations = np.concatenate([concentration for concentration, _ in drawn])
            names = list(drawn[0][1])
            values = np.stack([np.concatenate([each[name] for _, each in drawn]) for name in names], axis=1)
            shares = rng.multinomial(size, self._class_shares, DRAWS) / size
            mixture = joint_thresholds(compare_shares(self._means.shares, shares)[:, None])
            self._tables[size] = Table.of(names, values, concentrations, list(MIXTURE), mixture)
        return self._tables[size]

    def _rates_without(self, cells: CellFeatures, groups: list[Rows]) -> list[Floats]:
        """Return for each group the rates of verdicts of all others that were fitted on as it was."""
        rates = []
        for rows in groups:
            alike = self._unseen == self._unseen[rows[0]]
            alike[rows] = False
            chosen = alike if alike.any() else self._unseen == self._unseen[rows[0]]
            rates.append(cells.verdicts[chosen].mean(0))
        return rates

    def _to_features(self, table: pd.DataFrame) -> CellFeatures:
        components = table[self._components].to_numpy(float)
        kernel = np.cos(components @ self._frequencies + self._phases) * np.sqrt(2 / KERNEL_FEATURES)
        verdicts = table["verdict"].to_numpy(str)
        features = table[list(FEATURES)].to_numpy(float)
        return CellFeatures(
            features,
            np.concatenate([kernel, components], axis=1),
            np.eye(len(self._probabilities))[table[self._probabilities].to_numpy().argmax(1)],
            np.stack([verdicts == verdict for verdict in VERDICT_RATES.values()], axis=1).astype(float),
            self._lamps.embed(features),
        )


def _median_distance(embedding: Floats, rng: np.random.Generator) -> float:
    """Return the median distance between pairs of (n, C) embeddings, which is the bandwidth of the kernel."""
    rows = embedding[rng.choice(len(embedding), min(len(embedding), 500), replace=False)]
    pairs = rng.integers(0, len(rows), (2, 2000))
    return float(np.median(np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1))) or 1.0
