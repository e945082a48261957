"""How a fit moves through its learning-rate schedule, so that it ends in time with the schedule at its end."""

import math
import time
from collections.abc import Callable

from pipelines.training import distributed

Clock = Callable[[], float]
"""Returns seconds, as `time.monotonic` does."""

WARM_UP = 5
"""The first steps, which are slower than the others and say nothing about their pace; as many more are then timed."""


class Pace:
    """The position of a fit in its schedule: one further with each step, or several where time is short.

    A fit that would not end in time takes longer strides through what is left of its schedule, so that the learning
    rate is annealed to its end with fewer steps (a budgeted schedule, Li et al. 2020). Without time pressure every
    stride is 1, and the fit does not depend on the clock.
    """

    def __init__(self, steps: int, seconds: float = math.inf, clock: Clock = time.monotonic) -> None:
        self._total, self._seconds, self._clock = steps, seconds, clock
        self._start_s = self._warm_s = clock() if seconds < math.inf else 0.0
        self._taken = 0
        self._position = 0
        self.shortened = False
        """Whether any stride was longer than 1."""

    @property
    def finished(self) -> bool:
        """Whether the end of the schedule is reached."""
        return self._position >= self._total

    def advance(self) -> int:
        """Return by how many positions to move the schedule after a step."""
        self._taken += 1
        left = self._total - self._position
        stride = 1
        if self._seconds < math.inf:
            # All processes must take the same number of steps, by one clock.
            stride = distributed.broadcast_number(self._stride(left))
        self.shortened |= stride > 1
        self._position += stride
        return stride

    def _stride(self, left: int) -> int:
        now = self._clock()
        left_s = self._seconds - (now - self._start_s)
        if left_s <= 0:
            return left
        if self._taken <= WARM_UP:
            self._warm_s = now
        if self._taken < 2 * WARM_UP:
            return 1
        step_s = (now - self._warm_s) / (self._taken - WARM_UP)
        if (left - 1) * step_s <= left_s:
            return 1
        return min(left, math.ceil(left / (int(left_s / step_s) + 1)))
