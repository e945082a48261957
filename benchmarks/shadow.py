"""What a challenger in the shadow costs the requests: the same service with and without it, in turn, in one run.

Run with `fatescope bench shadow`; about five minutes a network. The bundle is that of `benchmarks.serving`, and the
challenger another version of it, so that it costs as much as the champion. The load is half of what the service answers
over 64 connections without a challenger, sent at an even rate to /classify, one image a request; times count from when
a request was due. Server, challenger and load share the cores. Each turn starts a service of its own; with and without
take turns at being first.
"""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.request import urlopen

import pandas as pd
import typer

from benchmarks import service
from benchmarks.report import Figure, publish
from fatescope.command import run
from fatescope.errors import FatescopeError
from fatescope.inference import bundle as bundles
from service.registry import challengers
from tests.support.servers import free_port, ready

TURNS = 5
WARM_UP_S = 5
SETTLE_S = 12
"""Without load before each measurement, with a challenger and without: loading one, at low priority, takes seconds."""


@dataclass(frozen=True)
class Served:
    """A service to start, with and without a challenger."""

    folder: Path
    bundle: Path
    request: bytes

    def load(self, seconds: float, rate: float, *, shadow: bool) -> dict[str, Any]:
        """Start the service, load it for `seconds`, and return what came back; without a `rate`, as fast as it goes."""
        port, settings = free_port(), {"FATESCOPE_SHADOW": str(shadow).lower()}
        with service.serve(self.folder, self.bundle, port, settings=settings):
            ready(f"http://127.0.0.1:{port}/readyz")
            service.load(self.folder, port, self.request, WARM_UP_S, rate=rate)
            time.sleep(SETTLE_S)
            if shadow and not self._is_running(port):
                raise FatescopeError("the challenger does not run; look into the output of the service")
            return service.load(self.folder, port, self.request, seconds, rate=rate)

    @staticmethod
    def _is_running(port: int) -> bool:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
        return f'fatescope_challenger_state{{state="running",task="{service.TASK}"}} 1.0' in text

    def records(self) -> list[Path]:
        """Return the files of the shadow."""
        return sorted((self.folder / "records").glob("*/shadow/*.parquet"))


def prepare(folder: Path, backbone: str) -> Served:
    """Train a champion, and make another version of it the challenger."""
    bundle = service.prepare(folder, backbone)
    target = challengers.folder(bundle.parent.parent / "served") / service.TASK
    shutil.copytree(bundle, target)
    bundles.finalize(target, bundles.read_spec(target).model_copy(update={"seed": service.SEED + 1}))
    raw = min((folder / "data").rglob("*_Ch1.ome.tif")).read_bytes()
    return Served(folder, bundle, service.request("/classify", "application/octet-stream", raw))


def measure(folder: Path, backbone: str, seconds: float) -> list[Figure]:
    """Measure the service with a model of a backbone."""
    served = prepare(folder, backbone)
    rate = served.load(seconds, 0, shadow=False)["rate"] / 2
    results: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for turn in range(TURNS):
        for shadow in (bool(turn % 2), not turn % 2):
            results[shadow].append(served.load(seconds, rate, shadow=shadow))
            print(f"{backbone}, turn {turn + 1}, shadow {shadow}: {results[shadow][-1]}", flush=True)
    ratios = [
        with_it["p99_s"] / without["p99_s"] for with_it, without in zip(results[True], results[False], strict=True)
    ]
    rows = pd.concat([pd.read_parquet(path, columns=["ms", "dropped"]) for path in served.records()])
    return [
        Figure(f"{backbone}: p99 with a challenger over without, median of {TURNS} turns", median(ratios), "<= 1.10"),
        Figure(f"{backbone}: the same, lowest turn", min(ratios)),
        Figure(f"{backbone}: the same, highest turn", max(ratios)),
        Figure(
            f"{backbone}: answers other than 200",
            sum(result["failed"] for both in results.values() for result in both), "<= 0",
        ),
        Figure(f"{backbone}: requests a second (half load)", rate),
        *(
            Figure(
                f"{backbone}: {name} ms {'with' if shadow else 'without'} a challenger, median of turns",
                1000 * median(result[f"{name}_s"] for result in results[shadow]),
            )
            for name in ("p99", "median") for shadow in (False, True)
        ),
        Figure(
            f"{backbone}: share of the cells that the challenger answered",
            len(rows) / (len(rows) + int(rows["dropped"].sum())),
        ),
        Figure(f"{backbone}: ms of a core that it took for a cell, median", float(rows["ms"].median())),
    ]  # fmt: skip


def main(
    backbone: Annotated[str, typer.Option(help="One of the two networks, such as compact; without it, both.")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="For which a service is loaded in each turn.")] = 12,
) -> None:
    """Measure, print and write the figures."""
    figures = []
    for each in [backbone] if backbone else list(service.NETWORKS):
        with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
            figures += measure(Path(name), each, seconds)
    publish("shadow", figures, ["bentoml", "openvino", "onnxruntime"], service.SEED)


if __name__ == "__main__":
    run(main)
