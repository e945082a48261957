"""What changed between two versions of a task on the same cells: `A-B.json`."""

from typing import Literal

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.data.dataset import CellDataset
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.report import Report
from pipelines.registry.paired import PairedPredictions

Change = Literal["mended", "broken", "otherwise"]
CHANGES: dict[Change, str] = {
    "mended": "wrong before, right now",
    "broken": "right before, wrong now",
    "otherwise": "wrong before and now, but predicted otherwise",
}
"""Kinds of cells whose predicted class changed."""


class MetricChange(Report):
    """A metric of both versions, and the 95 % interval of the difference, where there is one."""

    a: float
    b: float
    difference: float
    """`b` less `a`."""
    low: float | None
    high: float | None

    def describe(self, form: str = "({low:+.3f} to {high:+.3f})") -> str:
        """Return the difference as text, with its interval."""
        if self.low is None or self.high is None:
            return f"{self.difference:+.3f} (no interval)"
        return f"{self.difference:+.3f} {form.format(low=self.low, high=self.high)}"


class GroupChange(Report):
    """The accuracy of both versions on one acquisition group."""

    cells: float
    a: float
    b: float


class Comparison(Report):
    """Two versions on the same test cells, which neither has seen."""

    task: str
    a: str
    """The earlier version, by number or alias."""
    b: str
    """The later version, by number or alias."""
    cells: int
    resampled: Literal["groups", "cells"]
    """The unit of the intervals: acquisition groups; reports of earlier versions could have cells instead."""
    no_interval: str | None = None
    """Why the differences have no intervals, such as too few acquisition groups."""
    figures: dict[str, MetricChange]
    """Metric → its change."""
    groups: dict[str, GroupChange]
    changed: dict[Change, int]
    """Kind → cells whose predicted class changed."""

    def by_loss(self) -> list[tuple[str, GroupChange]]:
        """Return the groups, the one that loses most accuracy first."""
        return sorted(self.groups.items(), key=lambda item: item[1].b - item[1].a)

    def describe(self) -> str:
        """Return the comparison as plain text."""
        cells = plural.count(self.cells, "cell")
        lines = [f"{self.task}: version {self.a} → {self.b} on {cells} that neither has seen"]
        lines += [
            f"  {name:<18} {metric.a:.3f} → {metric.b:.3f}   "
            f"{metric.describe('(95 % interval {low:+.3f} to {high:+.3f})')}"
            for name, metric in self.figures.items()
        ]
        if self.no_interval is not None:
            lines += [f"  no interval: {self.no_interval}"]
        lines += ["  accuracy by group, the largest loss first:"]
        lines += [
            f"    {name:<16} {group.a:.3f} → {group.b:.3f}   {plural.count(round(group.cells), 'cell')}"
            for name, group in self.by_loss()[:10]
        ]
        changed = ", ".join(f"{count} {CHANGES[kind]}" for kind, count in self.changed.items())
        return "\n".join([*lines, f"  predicted class changed: {changed}"])


def compare(
    task: str, a: str, b: str, paired: PairedPredictions, source: CellDataset
) -> tuple[Comparison, pd.DataFrame]:
    """Compare the predictions of the versions `a` and `b`; return also a table of the cells that are called otherwise.

    Its columns are those of `_tabulate`, and `kind`, a name in CHANGES; the most confident cell of `b` is first.
    """
    units = intervals.choose_units(paired.groups, np.array(paired.classes)[paired.targets], paired.cells)
    counts = [
        intervals.counts_without(paired.targets, probabilities.argmax(1), units, len(paired.classes))
        for probabilities in (paired.before, paired.after)
    ]
    few = intervals.why_none(units)
    table = _tabulate(paired, source)
    by_group = table.groupby("group").agg(cells=("a", "size"), a=("right_a", "mean"), b=("right_b", "mean"))
    changed = table[table["a"] != table["b"]].copy()
    changed["kind"] = np.where(changed["right_b"], "mended", np.where(changed["right_a"], "broken", "otherwise"))
    comparison = Comparison(
        task=task,
        a=a,
        b=b,
        cells=len(table),
        resampled="groups",
        no_interval=few,
        figures={
            name: _change(metric(counts[0]), metric(counts[1]), units)
            for name, metric in metrics.CONFUSION_METRICS.items()
        },
        groups={
            str(name): GroupChange(cells=row["cells"], a=row["a"], b=row["b"]) for name, row in by_group.iterrows()
        },
        changed={kind: int((changed["kind"] == kind).sum()) for kind in CHANGES},
    )
    return comparison, changed.sort_values("sure_b", ascending=False)


def _change(a: intervals.Floats, b: intervals.Floats, units: intervals.Units) -> MetricChange:
    """Return the change between the (1 + U,) values of a metric: of all cells, then without each unit."""
    ends = intervals.interval(b - a, units, intervals.DIFFERENCE)
    known = intervals.why_none(units) is None and not ends.degenerate
    low, high = (ends.low, ends.high) if known else (None, None)
    return MetricChange(a=a[0], b=b[0], difference=ends.value, low=low, high=high)


def _tabulate(paired: PairedPredictions, source: CellDataset) -> pd.DataFrame:
    """Return a row a cell: `a` and `b` are predicted classes, `sure_a` and `sure_b` their probabilities."""
    classes = np.array(paired.classes)
    table = pd.DataFrame(
        {
            "cell_id": source.take(paired.rows, ["cell_id"])["cell_id"].to_numpy(),
            "row": paired.rows,
            "group": paired.groups,
            "label": classes[paired.targets],
            "a": classes[paired.before.argmax(1)],
            "b": classes[paired.after.argmax(1)],
            "sure_a": paired.before.max(1),
            "sure_b": paired.after.max(1),
        }
    )
    return table.assign(right_a=table["a"] == table["label"], right_b=table["b"] == table["label"])
