"""How far the features of a window of cells have shifted from a reference: the Kolmogorov-Smirnov distance of each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.floating]

_ALPHA = 1e-3


@dataclass(frozen=True)
class Shift:
    """The shift of one feature."""

    figure: str
    """The name of the feature."""
    distance: float
    """The largest difference of the two empirical distribution functions, 0 to 1."""
    chance: float
    """The distance that two samples of one distribution exceed once in a thousand times (Smirnov 1948)."""
    reference: float
    """Median in the reference."""
    window: float
    """Median in the window."""


def shifts(reference: pd.DataFrame, window: pd.DataFrame) -> list[Shift]:
    """Return the shift of each column of `window` from that of `reference`, the largest distance first."""
    result = []
    for name in window.columns:
        before, now = np.sort(reference[name].to_numpy()), np.sort(window[name].to_numpy())
        size = len(before) * len(now) / (len(before) + len(now))
        chance = min(1.0, float(np.sqrt(-np.log(_ALPHA / 2) / 2 / size)))
        result.append(Shift(name, distance(before, now), chance, float(np.median(before)), float(np.median(now))))
    return sorted(result, key=lambda shift: -shift.distance)


def distance(one: Floats, other: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two sorted samples."""
    values = np.concatenate([one, other])
    cumulative = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(cumulative[0] - cumulative[1]).max())
