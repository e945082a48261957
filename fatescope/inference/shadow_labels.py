"""What labels say of a challenger beside the champion: a paired verdict that may be looked at as often as one likes.

The unit is the acquisition group, since cells of one run are right or wrong together: its value is the mean over its
labelled cells of whether the challenger is right, less whether the champion is. A cell of no known group is a unit.
Two gamblers bet on the values (`fatescope.inference.bets`): one that the challenger is better, one that it is worse.

People volunteer corrections where the champion is wrong, so that these cannot show that a challenger is better. That
verdict therefore rests on labels of cells that were chosen before anyone saw the answer (`asked`); that it is worse, on
all labels, which are rather for it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from fatescope.inference.bets import Bets, Floats, confidence_sequence

LEVEL = 0.05
"""Chance that a verdict is wrong, over all looks at both verdicts together."""
CLOSED = timedelta(hours=1)
"""An acquisition group counts once no label of it has come for so long; what comes later does not count."""
Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Labelled:
    """What labels say of two versions."""

    cells: int
    champion_right: int
    challenger_right: int
    units: int
    """Acquisition groups that count, and cells of no known group."""
    groups: int
    """Of these, groups."""
    open_groups: int
    """Groups that do not count yet, because labels of them have come within the last hour."""
    asked_units: int
    """Units of which cells were chosen to be labelled before anyone saw the answer."""
    verdict: Verdict
    better: float
    """Evidence (wealth) that the challenger is better, from asked labels; a verdict from 2 / LEVEL on."""
    worse: float
    """Evidence that it is worse, from all labels."""
    low: float | None
    """Between what the challenger's gain in accuracy is, at all looks together; None without asked labels."""
    high: float | None

    def describe(self) -> str:
        """Return the verdict in words."""
        threshold = f"a verdict from {2 / LEVEL:.0f} on"
        if self.verdict == "better":
            return f"better: evidence {self.better:.3g}, {threshold}"
        if self.verdict == "worse":
            return f"worse: evidence {self.worse:.3g}, {threshold}"
        text = f"undecided: evidence {self.better:.3g} for better, {self.worse:.3g} for worse, {threshold}"
        if not self.asked_units:
            text += (
                "; only labels that were asked for can show that it is better, because people volunteer corrections "
                "where the champion is wrong"
            )
        return text


def judge_labels(labels: pd.DataFrame, now: datetime) -> Labelled:
    """Compare two versions on their labelled cells, as `shadow_records.read` returns them."""
    if labels.empty:
        return Labelled(0, 0, 0, 0, 0, 0, 0, "undecided", 1.0, 1.0, None, None)
    # A later label of a cell corrects an earlier one.
    cells = labels.drop_duplicates("pixel_hash", keep="last")
    right_before, right_after = cells["champion_label"] == cells["truth"], cells["label"] == cells["truth"]
    cells = cells.assign(gain=right_after.astype(float) - right_before.astype(float))
    values, groups, still_open = _units(cells, now)
    asked, _, _ = _units(cells[cells["asked"].astype(bool)], now)
    better, worse = Bets().add(asked), Bets().add(-values)
    verdict: Verdict = "worse" if worse >= 2 / LEVEL else "better" if better >= 2 / LEVEL else "undecided"
    low, high = confidence_sequence(asked, LEVEL) if len(asked) else (None, None)
    right = int(right_before.sum()), int(right_after.sum())
    return Labelled(len(cells), *right, len(values), groups, still_open, len(asked), verdict, better, worse, low, high)


def _units(cells: pd.DataFrame, now: datetime) -> tuple[Floats, int, int]:
    """Return the (n,) values of the units that count, in the order in which they began to, groups, and open groups."""
    groups = still_open = 0
    known = cells["group"].notna()
    closed = list(zip(cells["time"][~known], cells["gain"][~known].astype(float), strict=True))
    for _, rows in cells[known].groupby("group", sort=False):
        times = rows["time"]
        pause = (times.diff() > CLOSED).to_numpy()
        last = int(pause.argmax()) if pause.any() else len(rows)
        end = times.iloc[last - 1] + CLOSED
        if end > pd.Timestamp(now):
            still_open += 1
            continue
        groups += 1
        closed.append((end, float(rows["gain"].iloc[:last].mean())))
    closed.sort(key=lambda unit: unit[0])
    return np.array([value for _, value in closed]), groups, still_open
