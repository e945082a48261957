"""What answering takes: processor time and energy of the processes of the service, for metrics.

A machine counts the energy of whole processor packages. A process is given the share of it that its processor time has
of all processor time of the machine meanwhile; energy that idle cores spend is shared out likewise. The energy of GPUs
is that of all of them, and one process reports it. Processes that decode files are not counted.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fatescope.energy import GPU, PROCESSOR, EnergyMeter
from service.inference import metrics

INTERVAL_S = 10.0
"""Between two readings; short enough that no counter passes its highest value twice."""
STAT = Path("/proc/stat")


def busy_seconds(stat: Path = STAT) -> float | None:
    """Return the processor time of all processes since the machine started; None where nothing says."""
    try:
        fields = stat.read_text(encoding="ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return None
    user, nice, system, _idle, _waiting, *others = map(int, fields[1:8])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


class Footprint:
    """Counts what this process takes."""

    def __init__(
        self,
        meter: EnergyMeter,
        busy: Callable[[], float | None] = busy_seconds,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self._meter, self._busy, self._own = meter, busy, own
        self._last_busy, self._last_own = busy(), own()

    def update(self) -> None:
        """Add what was taken since the last call to the metrics."""
        own, busy, spent = self._own(), self._busy(), self._meter.spent()
        taken = max(0.0, own - self._last_own)
        metrics.PROCESSOR_SECONDS.inc(taken)
        if PROCESSOR in spent and busy is not None and self._last_busy is not None:
            # The two clocks do not tick together.
            share = min(1.0, taken / max(busy - self._last_busy, taken, 1e-9))
            metrics.ENERGY.labels(PROCESSOR).inc(share * spent[PROCESSOR])
        if GPU in spent:
            metrics.ENERGY.labels(GPU).inc(spent[GPU])
        self._last_busy, self._last_own = busy, own


def start(*, gpus: bool) -> threading.Event:
    """Count from now on, in a thread that ends when the event is set; with `gpus` also the energy of these."""
    footprint, ended = Footprint(EnergyMeter() if gpus else EnergyMeter(gpus=dict)), threading.Event()

    def repeat() -> None:
        while not ended.wait(INTERVAL_S):
            footprint.update()

    threading.Thread(target=repeat, name="footprint", daemon=True).start()
    return ended


def publish_prices(per_hour: float | None, per_kwh: float | None) -> None:
    """Publish the prices that are set, for the cost of cells."""
    for unit, price in (("hour", per_hour), ("kwh", per_kwh)):
        if price is not None:
            metrics.PRICE.labels(unit).set(price)
