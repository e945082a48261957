"""What every benchmark prints and writes: its figures beside their bars, and the machine they were measured on."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measured value with its bar, such as `>= 0.97`; without a bar it is for information only."""

    figure: str
    value: float
    bar: str | None = None

    @property
    def holds(self) -> bool | None:
        """Return whether the value meets the bar; None without a bar."""
        if self.bar is None:
            return None
        kind, limit = self.bar.split()
        return self.value >= float(limit) if kind == ">=" else self.value <= float(limit)


def publish(
    name: str, figures: list[Figure], packages: list[str], seed: int, accelerator: dict[str, str] | None = None
) -> None:
    """Print a table of `figures` and write `reports/bench/NAME.json`; `accelerator` describes a GPU that was used."""
    for figure in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
        print(f"{figure.figure:<78} {figure.value:>10.3f}  {figure.bar or '':<8} {mark}")
    content = {
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
        | (accelerator or {}),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "seed": seed,
        "figures": [{**asdict(figure), "holds": figure.holds} for figure in figures],
    }
    target = Path("reports/bench") / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {target}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
