"""The figures of the benchmark of drift: their bars, and their page."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.drift_cells import SEED
from benchmarks.report import Figure
from monitoring.thresholds import ALPHA

LIKE, LIKE_GROUP = "groups that the model was tested on, mixed", "one of these groups"
UNSEEN, HALF = "one run that it has never seen", "a new medium, half"
SIZES = (50, 100, 200, 500, 2000)
WINDOWS = 200
WINDOW, LOOKS, HELD, STREAMS = 500, 1000, 20, 40
"""Cells of the exporter's window, its looks, those for which an alert has to hold (ten minutes), and repetitions."""
HARDEST = 2.0
"""Standard errors by which power may fall with more cells."""

Shares = list[float]
"""Shares of windows, one per size in SIZES."""


@dataclass(frozen=True)
class Measured:
    """All that this benchmark measures."""

    cells: int
    """Of the reference."""
    groups: int
    runs: int
    """That are in no data."""
    tested: int
    """Groups that the model was tested on."""
    alarms: dict[str, Shares]
    """Windows → rates of false alarms."""
    looks: dict[str, float]
    """Windows → share of runs of LOOKS looks that raise an alert."""
    power: dict[str, Shares]
    """Change → rates at which it is found."""
    mixture: Shares
    """Rates at which one class alone is reported as another mixture."""

    @property
    def fall(self) -> float:
        """Return the largest fall of power with more cells, in standard errors of the difference."""
        falls = [0.0]
        for shares in self.power.values():
            for small, large in combinations(shares, 2):
                error = np.sqrt((small * (1 - small) + large * (1 - large)) / WINDOWS)
                falls.append((small - large) / max(float(error), 1 / WINDOWS))
        return max(falls)

    def rows(self) -> list[Figure]:
        """Return the figures beside their bars."""
        bars = {LIKE: "<= 0.015", LIKE_GROUP: "<= 0.015", UNSEEN: "<= 0.03"}
        named = {**self.alarms, **self.power, "another mixture": self.mixture}
        figures = [
            Figure(f"{name}, {size} cells", share, ">= 0.8" if (name, size) == (HALF, 500) else bars.get(name))
            for name, shares in named.items()
            for size, share in zip(SIZES, shares, strict=True)
        ]
        figures += [Figure(f"{LOOKS} looks at {name}", share, "<= 0.05") for name, share in self.looks.items()]
        return [*figures, Figure("fall of power with more cells, standard errors", self.fall, f"<= {HARDEST}")]

    def write(self, target: Path) -> None:
        """Write the page of the documentation."""
        looks = [["Looks at", ""], *([name, f"{share:.1%}"] for name, share in self.looks.items())]
        text = _TEXT.format(
            windows=WINDOWS, seed=SEED, cells=self.cells, tested=self.tested, groups=self.groups, alpha=ALPHA,
            quiet=_table(self.alarms), looks=_markdown(looks), power=_table(self.power | {_MIXTURE: self.mixture}),
            times=LOOKS, streams=STREAMS, window=WINDOW, held=HELD, fall=self.fall, runs=self.runs,
        )  # fmt: skip
        target.write_text(text, encoding="utf-8")


def _table(rows: dict[str, Shares]) -> str:
    header = ["Windows of", *(f"{size} cells" for size in SIZES)]
    return _markdown([header, *([name, *(f"{share:.1%}" for share in shares)] for name, shares in rows.items())])


def _markdown(lines: list[list[str]]) -> str:
    """Return a table whose first line is the header."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_MIXTURE = "one class alone: reported as another mixture, which is no fault"
_TEXT = """# How often drift is found

Written by `fatescope bench drift` (seed {seed}) after `fatescope repro` on the default, simulated data: {windows}
windows each, binary model, {cells} cells of {groups} acquisition groups in its reference, of which it was tested on
{tested}. Another model has other figures.

## False alarms

The stated level is {alpha:.0%} of windows, of like cells or of one run that is in no data ({runs} such runs here; where
a run has too few cells for a window, some are in it more than once).

{quiet}

An exporter looks again and again. {times:,} looks at windows of {window} cells, each replaced at once and then there
for the {held} looks that an alert has to hold, are the worst traffic. So many of {streams} such runs raise an alert:

{looks}

## Power

{power}

Power falls with more cells by at most {fall:.1f} standard errors, over all rows but the last.

Thresholds allow for what chance gives in a window of this size and for how much runs differ, which depends on how many
lamps a window has. With few groups in the data the second part is wide, and a smaller change, or a medium that looks to
the model like one that it knows, is found in no window, however large. More runs of each class in the data make it
narrower.

A new medium is found by `novelty`, although hardly any of its cells is unlike the known ones: the mean of many cells
tells what a cell does not. It is found in windows of many runs more easily than in half a window, and in those of one
run by how far beyond other runs it lies. The statistic was developed with these two media in view, and not tried on
others, or on real ones. In simulated populations with 24 groups (`tests/monitoring/test_drift_levels.py`), half a
window of cells that lie 1.2 standard deviations away in two coordinates is found in at least 80 % of windows of 500
cells.

Native files, and images that IDEAS exported of them, say how they were acquired. `fact_…` is the share of cells that a
file says something new of: an instrument or a magnification that no training cell had, or a power of the lamp, a flow
speed or a mean background where one more run would hardly lie (all of these together, in 0.25 % of runs that vary as
the known ones do, and never within 5 % of a known run). Windows of known runs raise no alarm about them. Date and order
in the run are new in every run, and are not judged; cells of other files, and models made before, say nothing.

Few groups tell little of how runs differ, and thresholds are wider for it. The same tests hold one unseen run to alarms
in 3 % (and two standard errors) of windows with 4, 6 and 24 groups. A reference of two groups keeps no such promise.
"""
