"""How many cells are outside the gates of quality, by class, by acquisition group and by reason: `quality.json`."""

import pandas as pd

from fatescope.data.quality_gate import REASONS, QualityGate
from pipelines.evaluation.report import Report


class QualityCounts(Report):
    """Cells, and how many of them are outside."""

    cells: int
    """All of them."""
    outside: int
    """Those that are outside any gate."""
    reasons: dict[str, int]
    """Reason → cells that are outside its gate; a cell may have several reasons."""

    @property
    def share(self) -> float:
        """Return the share of cells outside, 0 to 1."""
        return self.outside / self.cells if self.cells else 0.0


class GateSample(Report):
    """The cells from which the limits were learned."""

    cells: int
    """How many."""
    of: int
    """Of how many cells."""
    seed: int | None
    """Of the draw at random, without replacement; null where all cells were used."""


class QualityReport(Report):
    """The gates, and what is outside them."""

    excluded: bool
    """Whether cells outside belong to no split: `quality.exclude`."""
    gate: QualityGate
    """The limits."""
    learned_from: GateSample | None = None
    """Which cells the limits are of, but for those in `quality.limits`; null in reports of earlier versions."""
    total: QualityCounts
    """Of all cells."""
    classes: dict[str, QualityCounts]
    """By class."""
    groups: dict[str, QualityCounts]
    """By acquisition group."""


class QualityTally:
    """Cells by class and by group, and how many of them are outside, counted a part at a time."""

    def __init__(self) -> None:
        self._counts: dict[str, pd.DataFrame] = {}

    def add(self, rows: pd.DataFrame, cells: pd.DataFrame) -> None:
        """Add `rows` of `CellQuality.table`, and the same rows of the manifest, with `label` and `group`."""
        flags = rows[["outside", *REASONS]].astype(int).assign(cells=1)
        for name in ("label", "group"):
            counted = flags.groupby(cells[name].to_numpy(str)).sum()
            before = self._counts.get(name)
            self._counts[name] = counted if before is None else before.add(counted, fill_value=0)

    def report(self, gate: QualityGate, sample: GateSample, *, excluded: bool) -> QualityReport:
        """Return the counts of all cells that were added."""
        by = {
            name: {str(value): _count(row) for value, row in counts.sort_index().iterrows()}
            for name, counts in self._counts.items()
        }
        total = _count(self._counts["label"].sum())
        return QualityReport(
            excluded=excluded, gate=gate, learned_from=sample, total=total, classes=by["label"], groups=by["group"]
        )


def _count(sums: "pd.Series[int]") -> QualityCounts:
    reasons = {name: int(sums[name]) for name in REASONS}
    return QualityCounts(cells=int(sums["cells"]), outside=int(sums["outside"]), reasons=reasons)
