"""The energy that this machine spends, where its hardware counts it and the counters may be read.

Processors count by package (Running Average Power Limit, which Linux shows in `/sys/class/powercap`, often to root
alone), NVIDIA GPUs since Volta by device (NVML). Virtual machines show neither as a rule: then nothing is measured, and
nothing is estimated in its place.
"""

from collections.abc import Callable
from pathlib import Path

COUNTERS = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processor packages."""
PROCESSOR, GPU = "processor", "gpu"
"""Sources of energy."""


def read_processors(counters: Path = COUNTERS) -> dict[str, tuple[float, float]]:
    """Return processor package → its counter and the value at which that starts again, joules."""
    packages = {}
    for folder in sorted(counters.glob("*-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # parts of a package, which have a second colon, are in its counter already
            try:
                energy, highest = (
                    float((folder / name).read_text(encoding="utf-8")) / 1e6
                    for name in ("energy_uj", "max_energy_range_uj")
                )
            except OSError:
                continue
            packages[folder.name] = (energy, highest)
    return packages


def read_gpus() -> dict[str, float]:
    """Return GPU → the energy that it has spent since its driver was loaded, joules; empty where none counts it."""
    try:
        import pynvml  # type: ignore[import-untyped]  # noqa: PLC0415  half of all machines have no use for it
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return {}
    spent = {}
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            spent[str(number)] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except pynvml.NVMLError:  # older than Volta
            continue
    return spent


class EnergyMeter:
    """Measures the energy of the machine from one call of `spent` to the next."""

    def __init__(
        self,
        processors: Callable[[], dict[str, tuple[float, float]]] = read_processors,
        gpus: Callable[[], dict[str, float]] = read_gpus,
    ) -> None:
        self._processors, self._gpus = processors, gpus
        self._packages, self._devices = processors(), gpus()

    def spent(self) -> dict[str, float]:
        """Return source → joules since the last call; without those that cannot be read."""
        packages, devices = self._processors(), self._gpus()
        spent = {}
        if packages and packages.keys() == self._packages.keys():
            # A counter that reaches its highest value starts again from zero.
            differences = {name: now - self._packages[name][0] for name, (now, _) in packages.items()}
            spent[PROCESSOR] = sum(
                joules + packages[name][1] if joules < 0 else joules for name, joules in differences.items()
            )
        if devices and devices.keys() == self._devices.keys():
            spent[GPU] = sum(max(0.0, now - self._devices[name]) for name, now in devices.items())
        self._packages, self._devices = packages, devices
        return spent
