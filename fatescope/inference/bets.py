"""Tests of a mean that may be looked at as often as one likes: bets that it is above a limit.

Values x in [-1, 1] come one after the other. A gambler who stakes the share s of his wealth on each x being above the
limit m multiplies it by 1 + s (x - m). As long as the mean of each x, given those before it, is at most m, his wealth
does not grow on average, and the chance that it ever reaches 1 / c is at most c, however often anyone looks (Ville
1939). The wealth here is the mean over several stakes, which is valid without choosing one (testing by betting: Shafer
2021; bounded means and confidence sequences: Waudby-Smith and Ramdas 2024, JRSS B 86, 1-27).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9])
"""Shares of what may be staked without ruin; small ones find small differences among many values."""
_MEANS = np.linspace(-0.995, 0.995, 200)
"""Means that a confidence sequence tries."""
_CHUNK = 250
"""Values that it takes at a time."""


class Bets:
    """The wealth of a gambler who bets that the mean of values in [-1, 1] is above `limit`."""

    def __init__(self, limit: float = 0.0) -> None:
        """`limit` is below 1."""
        self._limit = limit
        self._logs = np.zeros(len(STAKES))
        self.values = 0
        """How many there were."""
        self.most = 1.0
        """The largest wealth so far: its inverse bounds the chance of such a wealth where the mean is not above."""

    def add(self, values: Iterable[float]) -> float:
        """Bet on `values`, one after the other, and return `most`."""
        for value in values:
            # A loss is at most the stake: a value is -1 at least.
            self._logs += np.log1p(STAKES / (1 + self._limit) * (value - self._limit))
            self.values += 1
            self.most = max(self.most, float(np.exp(np.minimum(self._logs, 700)).mean()))
        return self.most


def confidence_sequence(values: Floats, level: float) -> tuple[float, float]:
    """Return between what the mean of (n,) values in [-1, 1] is, at all n at once, with a chance of 1 - `level`.

    Each mean is tried by bets on both sides, and left out once either wealth has reached 2 / `level`.
    """
    stakes = np.stack([STAKES / (1 + _MEANS[:, None]), -STAKES / (1 - _MEANS[:, None])])
    logs, kept = np.zeros(stakes.shape), np.ones(len(_MEANS), bool)
    limit = np.log(2 * len(STAKES) / level)
    for start in range(0, len(values), _CHUNK):
        away = values[start : start + _CHUNK, None] - _MEANS
        steps = logs + np.cumsum(np.log1p(stakes * away[:, None, :, None]), axis=0)
        kept &= (np.logaddexp.reduce(steps, axis=3) < limit).all((0, 1))
        logs = steps[-1]
    if not kept.any():
        return -1.0, 1.0
    # Between the means that were tried, each stands for those next to it.
    step = float(_MEANS[1] - _MEANS[0])
    return max(-1.0, float(_MEANS[kept][0]) - step), min(1.0, float(_MEANS[kept][-1]) + step)
