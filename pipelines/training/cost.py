"""What a piece of work costs: time, and energy where the processor counts it and lets us read the counter."""

import time
from pathlib import Path

COUNTERS = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processor packages (Running Average Power Limit)."""


class Meter:
    """Counts from the moment that it is made."""

    def __init__(self, counters: Path = COUNTERS) -> None:
        self._counters = counters
        self._begun, self._joules = time.monotonic(), _read(counters)

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self._begun

    def watt_hours(self) -> float | None:
        """Return the energy that all packages took meanwhile, by whatever ran on them; None where it is not told."""
        now = _read(self._counters)
        if not now or set(now) != set(self._joules):
            return None
        total = 0.0
        for package, (joules, highest) in now.items():
            spent = joules - self._joules[package][0]
            # The counter starts again from zero.
            total += spent + highest if spent < 0 else spent
        return total / 3600


def add_costs(*costs: dict[str, float]) -> dict[str, float]:
    """Return the sums of `fit_seconds` and, where all costs have it, of `energy_wh`."""
    keys = [key for key in ("fit_seconds", "energy_wh") if all(key in each for each in costs)]
    return {key: sum(each[key] for each in costs) for key in keys}


def fit_cost(meter: Meter) -> dict[str, float]:
    """Return what `meter` has counted as `fit_seconds` and, where it is told, `energy_wh`."""
    energy = meter.watt_hours()
    return {"fit_seconds": meter.seconds()} | ({} if energy is None else {"energy_wh": energy})


def _read(counters: Path) -> dict[str, tuple[float, float]]:
    """Return package → joules so far, and where that counter starts again."""
    found = {}
    for folder in sorted(counters.glob("*-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # a part of a package has a second colon
            try:
                energy, highest = (
                    float((folder / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj")
                )
            except OSError:
                continue
            found[folder.name] = (energy, highest)
    return found
