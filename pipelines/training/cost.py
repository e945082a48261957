"""What training costs: time, and energy where the processor counts it and the counter may be read."""

import time
from dataclasses import dataclass
from pathlib import Path

from fatescope.energy import COUNTERS, read_processors


@dataclass(frozen=True)
class FitCost:
    """Cost of one or several fits."""

    seconds: float
    """Wall-clock time."""
    energy_wh: float | None
    """Energy of all processor packages, whatever ran on them; None where it could not be measured."""

    def __add__(self, other: "FitCost") -> "FitCost":
        """Return the cost of both; the energy is known where both are."""
        known = self.energy_wh is not None and other.energy_wh is not None
        energy = self.energy_wh + other.energy_wh if known else None  # type: ignore[operator]  # both are known
        return FitCost(self.seconds + other.seconds, energy)

    def as_fields(self) -> dict[str, float]:
        """Return the fields of reports: `fit_seconds` and, where it is known, `energy_wh`."""
        energy = {} if self.energy_wh is None else {"energy_wh": self.energy_wh}
        return {"fit_seconds": self.seconds} | energy


@dataclass(frozen=True)
class ModelCost:
    """Size of a network and the cost of running it."""

    parameters: int
    """Number of weights."""
    multiply_adds: float
    """Multiply-adds for one cell."""

    def as_fields(self) -> dict[str, float]:
        """Return the fields of reports: `parameters` and `multiply_adds`."""
        return {"parameters": float(self.parameters), "multiply_adds": self.multiply_adds}


class Meter:
    """Measures time and energy from the moment it is created."""

    def __init__(self, counters: Path = COUNTERS) -> None:
        self._counters = counters
        self._start_s, self._start = time.monotonic(), read_processors(counters)

    def cost(self) -> FitCost:
        """Return the cost so far."""
        return FitCost(time.monotonic() - self._start_s, self._energy_wh())

    def _energy_wh(self) -> float | None:
        now = read_processors(self._counters)
        if not now or set(now) != set(self._start):
            return None
        total = 0.0
        for package, (joules, highest) in now.items():
            spent = joules - self._start[package][0]
            # A counter that reaches its highest value starts again from zero.
            total += spent + highest if spent < 0 else spent
        return total / 3600
