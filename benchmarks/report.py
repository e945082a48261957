"""What every benchmark prints and writes: its figures beside their bars, and the machine they were measured on."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A ratio, the bar it must reach (`>=` or `<=`), and how it was measured; without a bar it is for reading only."""

    figure: str
    value: float
    bar: str | None = None

    @property
    def holds(self) -> bool | None:
        """Tell whether the bar is reached."""
        if self.bar is None:
            return None
        kind, limit = self.bar.split()
        return self.value >= float(limit) if kind == ">=" else self.value <= float(limit)


def publish(name: str, figures: list[Figure], packages: list[str], seed: int) -> None:
    """Print a table of `figures` and write `reports/bench/NAME.json`."""
    for each in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[each.holds]
        print(f"{each.figure:<78} {each.value:>10.3f}  {each.bar or '':<8} {mark}")
    content = {
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{each: version(each) for each in packages}},
        "seed": seed,
        "figures": [{**asdict(each), "holds": each.holds} for each in figures],
    }
    target = Path("reports/bench") / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {target}")


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
