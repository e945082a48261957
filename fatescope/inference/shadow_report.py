"""A champion and its challenger on live traffic, in words and numbers, from the records of the shadow."""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.inference.bets import Floats
from fatescope.inference.shadow_labels import Labelled, judge_labels
from fatescope.inference.uncertainty import VERDICTS

_SHOWN = 5
"""Pairs of calls that are shown."""
_FEWEST_REQUESTS = 10
"""That an interval needs."""


@dataclass(frozen=True)
class LiveComparison:
    """What a challenger answered in the shadow of the champion."""

    task: str
    champion: str
    challenger: str
    since: str
    """Time of the first cell, UTC, ISO 8601."""
    until: str
    cells: int
    requests: int
    dropped: int
    """Cells that were answered by the champion but not compared, because the challenger was busy or failed."""
    agreement: float
    """Share of cells with the same call; with the ends of its 95 % interval by request where there are 10 or more."""
    agreement_low: float | None
    agreement_high: float | None
    differing: dict[str, int]
    """`champion's call → challenger's call` → cells, the most first."""
    verdicts: dict[str, dict[str, int]]
    """Verdict of the champion → that of the challenger → cells."""
    mean_divergence: float
    high_divergence: float
    """95 % of cells have at most this one."""
    median_ms: float
    """Processor time of the challenger for a cell."""
    high_ms: float
    labels: Labelled
    taken_back: dict[str, str] | None
    """Why it gets no share of the traffic any more; None where it was not taken back."""

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return the comparison as plain text."""
        total = self.cells + self.dropped
        span = f"{self.since[:16]} to {self.until[:16]} UTC"
        lines = [f"{self.task}: version {self.challenger} in the shadow of version {self.champion}, {span}"]
        dropped = f"{plural.count(self.dropped, 'more was', 'more were')} not compared ({self.dropped / total:.1%})"
        lines.append(_line("cells", f"{self.cells:,} of {plural.count(self.requests, 'request')}; {dropped}"))
        interval = ""
        if self.agreement_low is not None:
            interval = f" (95 % interval by request: {self.agreement_low:.1%} to {self.agreement_high:.1%})"
        lines.append(_line("same call", f"{self.agreement:.1%}{interval}"))
        lines += [_line("", f"{calls}: {count:,}") for calls, count in list(self.differing.items())[:_SHOWN]]
        lines.append(_line("verdicts", "the champion's, and of these cells the challenger's:"))
        for verdict, row in self.verdicts.items():
            lines.append(_line("", f"{verdict:<16}" + ", ".join(f"{name} {count:,}" for name, count in row.items())))
        divergence = f"{self.mean_divergence:.3f} on average; at most {self.high_divergence:.3f} for 95 % of cells"
        lines.append(_line("probabilities", f"differ by {divergence}"))
        time = f"{self.median_ms:.2f} ms of a core a cell (median); at most {self.high_ms:.2f} ms for 95 %"
        lines.append(_line("time", time))
        lines += self._describe_labels()
        if self.taken_back:
            reason = f"{self.taken_back['reason']}: {self.taken_back['detail']}"
            lines.append(_line("canary", f"taken back {self.taken_back['time'][:16]}, {reason}"))
        return "\n".join(lines)

    def _describe_labels(self) -> list[str]:
        labels = self.labels
        if not labels.cells:
            return [_line("with labels", "nothing: no correction of these versions has come")]
        right = f"challenger right in {labels.challenger_right:,}, champion in {labels.champion_right:,}"
        alone, still_open = labels.units - labels.groups, labels.open_groups
        units = (
            f"{plural.count(labels.groups, 'acquisition group')} and {plural.count(alone, 'cell')} of no known group"
        )
        if still_open:
            units += f"; {plural.count(still_open, 'group')} still open"
        lines = [_line("labels", f"{labels.cells:,}: {right}"), _line("", f"counted by {units}")]
        if labels.low is not None:
            gain = f"between {labels.low:+.3f} and {labels.high:+.3f}, however often this is looked at"
            lines.append(_line("", f"gain in accuracy {gain}"))
        return [*lines, _line("with labels", labels.describe())]


def _line(name: str, text: str) -> str:
    return f"  {name:<14} {text}"


def compare(
    rows: pd.DataFrame, labels: pd.DataFrame, task: str, now: datetime, taken_back: dict[str, str] | None = None
) -> LiveComparison:
    """Compare two versions by what `read` returns of the traffic, which must not be empty, and of labelled cells."""
    same = rows["champion_label"] == rows["label"]
    by_request = same.astype(float).groupby(rows["request_id"], sort=False).agg(["mean", "size"])
    calls = (rows["champion_label"] + " → " + rows["label"])[~same].value_counts()
    crossed = Counter(zip(rows["champion_verdict"], rows["verdict"], strict=True))
    low, high = _interval(by_request["mean"].to_numpy(), by_request["size"].to_numpy(float))
    return LiveComparison(
        task=task,
        champion=str(rows["champion"].iloc[-1]),
        challenger=str(rows["challenger"].iloc[-1]),
        since=rows["time"].min().isoformat(),
        until=rows["time"].max().isoformat(),
        cells=len(rows),
        requests=len(by_request),
        dropped=int(rows["dropped"].sum()),
        agreement=float(same.mean()),
        agreement_low=low,
        agreement_high=high,
        differing={str(name): int(count) for name, count in calls.items()},
        verdicts={before: {after: crossed[before, after] for after in VERDICTS} for before in VERDICTS},
        mean_divergence=float(rows["divergence"].mean()),
        high_divergence=float(rows["divergence"].quantile(0.95)),
        median_ms=float(rows["ms"].median()),
        high_ms=float(rows["ms"].quantile(0.95)),
        labels=judge_labels(labels, now),
        taken_back=taken_back,
    )


def _interval(shares: Floats, cells: Floats) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a share from (n,) shares of requests of (n,) cells: a ratio, linearised."""
    if len(shares) < _FEWEST_REQUESTS:
        return None, None
    mean = float(np.average(shares, weights=cells))
    error = float(np.sqrt(((cells * (shares - mean)) ** 2).sum()) / cells.sum())
    # Requests that are all alike say no more than so many do (Laplace).
    error = error or 1 / (len(shares) + 2)
    return max(0.0, mean - 1.96 * error), min(1.0, mean + 1.96 * error)
