"""What every benchmark prints and writes: its figures beside their bars, and the machine they were measured on."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

MARK = "not a measurement"
"""In the name of each figure of a run that checks the program alone."""


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


def unmeasured(figures: list[Figure]) -> list[Figure]:
    """Return the figures of a run that checks the program alone, marked so, and without bars."""
    return [Figure(f"[{MARK}] {figure.figure}", figure.value) for figure in figures]


def publish(
    name: str,
    figures: list[Figure],
    packages: list[str],
    seed: int,
    accelerator: dict[str, str] | None = None,
    *,
    keep: str | None = None,
) -> None:
    """Print a table of `figures` and write `reports/bench/NAME.json`; `accelerator` describes a GPU that was used.

    With `keep`, what the file has already stays, but for figures whose names begin with `keep`.
    """
    for figure in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
        print(f"{figure.figure:<78} {figure.value:>10.3f}  {figure.bar or '':<8} {mark}")
    target = Path("reports/bench") / f"{name}.json"
    kept = []
    if keep is not None and target.exists():
        known = json.loads(target.read_text(encoding="utf-8"))["figures"]
        kept = [figure for figure in known if not figure["figure"].startswith(keep)]
    content = {
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
        | (accelerator or {}),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "seed": seed,
        "figures": [*kept, *({**asdict(figure), "holds": figure.holds} for figure in figures)],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {target}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
