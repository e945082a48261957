"""How far the figures of some cells lie from those of others: the Kolmogorov-Smirnov distance, figure by figure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.floating]

_ALPHA = 1e-3


@dataclass(frozen=True)
class Shift:
    """One figure in a reference and in a window of cells."""

    figure: str
    distance: float
    """The largest difference of the two distribution functions, 0 to 1."""
    chance: float
    """What like windows of these sizes exceed once in a thousand times (Smirnov 1948)."""
    reference: float
    """Median in the reference."""
    window: float
    """Median in the window."""


def shifts(reference: pd.DataFrame, window: pd.DataFrame) -> list[Shift]:
    """Return the shift of every column of `window` (n rows) from that of `reference`, the farthest first."""
    found = []
    for name in window.columns:
        before, now = np.sort(reference[name].to_numpy()), np.sort(window[name].to_numpy())
        size = len(before) * len(now) / (len(before) + len(now))
        chance = min(1.0, float(np.sqrt(-np.log(_ALPHA / 2) / 2 / size)))
        found.append(Shift(name, distance(before, now), chance, float(np.median(before)), float(np.median(now))))
    return sorted(found, key=lambda each: -each.distance)


def distance(one: Floats, other: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two sorted samples."""
    every = np.concatenate([one, other])
    below = [np.searchsorted(each, every, side="right") / len(each) for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())
