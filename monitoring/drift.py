"""Compare a window of production cells with the cells that a model knows. Pure: tables in, a report out.

Both tables have the features of `features.ACQUISITION`, `height` and `width`, the components `e0`, `e1`, ... of the
embedding, `p_CLASS` and `verdict`, and what files say of the acquisition, where they do
(`fatescope.data.acquisition_facts`); the reference, from the bundle, also `group` and `seen`. Every statistic is an
effect size, so that a large window does not raise an alarm over a negligible difference:

| statistic | meaning |
|---|---|
| `ks_FEATURE` | Kolmogorov-Smirnov distance between the distributions of a feature, 0 to 1 |
| `psi_FEATURE` | population stability index over the deciles of the reference (Siddiqi 2006) |
| `outside_FEATURE` | share of cells outside the central 99 % of the reference, widened by what another run may add |
| `mmd` | maximum mean discrepancy of the embeddings (Gretton et al. 2012) among cells predicted alike |
| `novelty` | distance of the embeddings in units of what runs of like cells differ by: finds new media |
| `classes` | total variation distance between the predicted classes; a mixture may change without any fault |
| `unsure`, `unlike` | excess of the rate of the verdict over that of the reference |
| `fact_FACT` | share of cells whose file says something new of the acquisition (`monitoring.facts`) |

A threshold belongs to the model, to the size of the window and to how many lamps it has. It is the sum of two limits:

- of chance: all but the share ALPHA of windows of like cells, of this very size, stay below all of these together;
- of runs: how far beyond that windows of runs go that are in no data (`monitoring.run_effects`), by how alike the cells
  of a window are imaged (`monitoring.lamps`): one run differs from the reference by more than the mean of many does.

A difference within the second limit is not found in a window of any size, and one beyond it the more often the larger
the window. `novelty` has both in its unit already (`monitoring.novelty`), and the threshold of `classes` is of chance
alone. Rates of verdicts and novelty are compared with those of cells that the model was not fitted on.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from monitoring.coding import Coding
from monitoring.facts import know_facts
from monitoring.findings import INPUT, MIN_CELLS, OTHER_MIXTURE, Finding, Report
from monitoring.novelty import Novelty
from monitoring.run_effects import RunEffects, find_edges
from monitoring.statistics import (
    CellFeatures,
    Floats,
    Means,
    Rows,
    compare_features,
    compare_shares,
    discrepancies,
    excess_rates,
)
from monitoring.thresholds import ALPHA, CONCENTRATIONS, LEVEL_OF_RUNS, by_concentration, floor, joint_thresholds

SIZES = (30, 60, 120, 250, 500, 1000, 2000)
"""Windows, in cells, whose thresholds are computed; those between follow, and larger ones have those of the largest."""
MIN_GROUP_CELLS = 10
"""Cells of a group of the reference from which runs are drawn."""
MAX_GROUPS = 40
"""Groups from which runs are drawn; of more, these many at even steps."""
DRAWS = 1000
"""Windows of like cells from which the threshold of a mixture is computed."""
MIXTURE = ("classes",)
"""Statistics that the composition of a culture may change; they are reported, and raise no alarm about the input."""


class Detector:
    """Compares windows with one reference."""

    def __init__(self, reference: pd.DataFrame, seed: int = 0) -> None:
        self._seed = seed
        # Older bundles, without this column, have only cells in their reference that the model was not fitted on.
        self._unseen = ~reference["seen"].to_numpy(bool) if "seen" in reference else np.ones(len(reference), bool)
        groups = _groups(reference)
        self._coding = Coding.of(reference, groups, seed)
        cells = self._coding.read(reference)
        self._edges = find_edges(cells.features, groups)
        self._means = Means.of(cells, self._edges)
        self._rates = cells.verdicts[self._unseen].mean(0)
        self._class_shares = cells.predicted[self._unseen].mean(0)
        self._runs = RunEffects(
            cells, self._edges, groups, self._means, self._rates_without(cells, groups), self._coding.lamps
        )
        self._novelty = Novelty.of(cells.described, cells.predicted, groups, ~self._unseen)
        self._facts = know_facts(reference, _groups)
        self._chances: dict[int, dict[str, float]] = {}

    def evaluate(self, window: pd.DataFrame) -> Report:
        """Compare a window of at least MIN_CELLS cells with the reference."""
        assert len(window) >= MIN_CELLS, len(window)
        cells = self._coding.read(window)
        means = Means.of(cells, self._edges)
        values = compare_features(self._coding.features, self._means.below, means.below - self._means.below)
        values |= excess_rates(means.verdicts - self._rates)
        difference = (means.kernel - self._means.kernel) * (means.counts > 0)[:, None]
        values["mmd"] = discrepancies(difference, self._runs.scatter, means.counts, self._means.counts)
        values["classes"] = compare_shares(self._means.shares, means.shares)
        concentration = float(self._coding.lamps.concentration(means.light, len(window)))
        size = min(len(window), SIZES[-1])
        novelty = self._novelty.distance(cells.described.mean(0), means.shares, size, concentration)
        values["novelty"] = np.asarray(novelty)
        thresholds = self.thresholds(len(window), concentration)
        findings = [
            Finding(name, float(value), thresholds[name], OTHER_MIXTURE if name in MIXTURE else INPUT)
            for name, value in values.items()
        ]
        return Report(len(window), [*findings, *filter(None, (fact.judge(window) for fact in self._facts))])

    def thresholds(self, size: int, concentration: float = 1.0) -> dict[str, float]:
        """Return statistic → the threshold for windows of `size` cells that are imaged alike to that degree."""
        size, unseen = min(size, SIZES[-1]), int(self._unseen.sum())
        limits, chance = self._run_limits[int(np.digitize(concentration, CONCENTRATIONS))], self._chance(size)
        # What is within the differences of runs in any window must not be found in a small one by chance.
        thresholds = {
            name: max(limits.get(name, 0.0) + value, floor(name, size, unseen, self._rates))
            for name, value in chance.items()
        }
        return thresholds | {"novelty": self._novelty.limit(size, concentration, LEVEL_OF_RUNS)}

    @cached_property
    def _run_limits(self) -> list[dict[str, float]]:
        """Statistic → how far windows of unseen runs go beyond chance, the least concentrated windows first."""
        drawn = list(self._runs.draw_runs(SIZES[-1], np.random.default_rng(self._seed)))
        names, chance = list(drawn[0][1]), self._chance_at(SIZES[-1])
        rows = by_concentration([(each, np.stack(list(values.values()), axis=1)) for each, values in drawn])
        return [
            {name: max(0.0, float(limit) - chance[name]) for name, limit in zip(names, row, strict=True)}
            for row in rows
        ]

    def _chance(self, size: int) -> dict[str, float]:
        """Return statistic → what windows of `size` like cells stay below."""
        place = next(i for i, larger in enumerate(SIZES) if larger >= size)
        large = self._chance_at(SIZES[place])
        if size == SIZES[place]:
            return large
        small = self._chance_at(SIZES[place - 1])
        # It falls with the root of the number of cells.
        roots = 1 / np.sqrt([SIZES[place - 1], size, SIZES[place]])
        weight = float((roots[1] - roots[2]) / (roots[0] - roots[2]))
        return {name: value + weight * max(0.0, small[name] - value) for name, value in large.items()}

    def _chance_at(self, size: int) -> dict[str, float]:
        if size not in self._chances:
            rng = np.random.default_rng(self._seed + size)
            values = self._runs.draw_like(size, rng)
            limits = joint_thresholds(np.stack(list(values.values()), axis=1), ALPHA)
            shares = rng.multinomial(size, self._class_shares, DRAWS) / size
            mixture = np.quantile(compare_shares(self._means.shares, shares), 1 - ALPHA)
            self._chances[size] = dict(zip(values, limits.tolist(), strict=True)) | {MIXTURE[0]: float(mixture)}
        return self._chances[size]

    def _rates_without(self, cells: CellFeatures, groups: list[Rows]) -> list[Floats]:
        """Return for each group the rates of verdicts of all others, as many of them fitted on as of the group."""
        rates = list[Floats]()
        for rows in groups:
            others = np.ones(len(self._unseen), bool)
            others[rows] = False
            rate: Floats = np.zeros(cells.verdicts.shape[1])
            for part in (self._unseen, ~self._unseen):
                if share := part[rows].mean():
                    chosen = part & others if (part & others).any() else part
                    rate += share * cells.verdicts[chosen].mean(0)
            rates.append(rate)
        return rates


def _groups(reference: pd.DataFrame) -> list[Rows]:
    """Return the rows of each group that is large enough, MAX_GROUPS at most; one of all cells where none is."""
    grouped = [np.asarray(rows) for rows in reference.groupby("group").indices.values() if len(rows) >= MIN_GROUP_CELLS]
    if not grouped:
        return [np.arange(len(reference))]
    return [grouped[i] for i in np.unique(np.linspace(0, len(grouped) - 1, MAX_GROUPS).astype(int))]
