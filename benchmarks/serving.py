"""Speed of the service beside what bounds it, and beside other services for the same model.

Run with `fatescope bench serving`; about half an hour. A compact network, and ResNet18 at 60x60, trained briefly on
simulated cells, on two cores that server and load share; the load comes from a process of its own (`benchmarks.load`).
- The limit is the same graph in this process: 2,000 files decoded and classified, one by one and in batches of the best
  size.
- The peers are `mlflow models serve` on the registered model, and LitServe and plain FastAPI with the same engine and
  decoder as ours. All get one image a request, in a form, over one connection and over 64.
"""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import psutil
import typer

from benchmarks.report import Figure, publish
from benchmarks.service import (
    CELLS,
    CONNECTIONS,
    NETWORKS,
    REPEATS,
    SEED,
    Effort,
    Loaded,
    batches,
    form,
    load,
    prepare,
    request,
    serve,
)
from benchmarks.serving_peers import peers, register
from fatescope.command import run
from fatescope.data import images
from fatescope.data.crops import center
from fatescope.errors import DataError
from service.inference import engines
from service.settings import ServiceSettings
from tests.support.servers import free_port, ready

BATCHES = (16, 32, 64, 128, 256)
OVER_LIMIT = {"compact": ">= 0.45", "resnet18": ">= 0.75"}
"""Backbone → bar of the rate at 64 connections over that of the graph in process, in batches."""
OVER_PEER = {"mlflow models serve": ">= 6", "LitServe": ">= 1.5", "plain FastAPI": ">= 3"}
"""Peer → bar of the rate at 64 connections over its own."""


@dataclass(frozen=True)
class Limit:
    """What the graph reaches in this process, decoding included."""

    rate: float
    """Cells a second in batches of the best size."""
    batch: int
    alone_s: float
    """Median time of one cell."""


def in_process(bundle: Path, raws: list[bytes]) -> Limit:
    """Measure the graph in this process."""
    settings = ServiceSettings.read()
    model, name = engines.start(bundle, settings.engine, settings.threads)
    print(f"engine: {name}", flush=True)

    def classify(chosen: list[bytes]) -> None:
        centred = []
        for raw in chosen:
            [(_, pixels)] = images.decode(raw, "cell", 1_000_000)
            centred.append(center(pixels, model.spec.canvas, "cell"))
        model.predict(np.stack(centred))

    def time_of(chosen: list[bytes]) -> float:
        began = time.perf_counter()
        classify(chosen)
        return time.perf_counter() - began

    alone = median(time_of([raw]) for raw in raws)
    rates = {}
    for batch in BATCHES:
        parts = [raws[start : start + batch] for start in range(0, len(raws), batch)]
        rates[batch] = median(len(raws) / sum(map(time_of, parts)) for _ in range(REPEATS))
    best = max(rates, key=lambda batch: rates[batch])
    return Limit(rates[best], best, alone)


def memory(process: subprocess.Popen[bytes]) -> float:
    """Return the memory in bytes that belongs to the processes of a server alone (USS)."""
    parent = psutil.Process(process.pid)
    return float(sum(member.memory_full_info().uss for member in [parent, *parent.children(recursive=True)]))


def ours(
    folder: Path, bundle: Path, raws: list[bytes], limit: Limit, bar: str, effort: Effort
) -> tuple[list[Figure], Loaded]:
    """Measure our own service; return the figures, and what it does with one image a request."""
    port = free_port()
    began = time.perf_counter()
    with serve(folder, bundle, port) as process:
        ready(f"http://127.0.0.1:{port}/readyz")
        started = time.perf_counter() - began
        many = batches(port, raws)
        # In a form, as the peers receive it.
        loaded = effort.load(folder, port, form("/classify", "image", raws[0]))
        bare = request("/classify", "application/octet-stream", raws[0])
        load(folder, port, bare, 0, effort.requests // 10)
        before = memory(process)
        later = load(folder, port, bare, 0, effort.requests - effort.requests // 10)
        after = memory(process)
    single, crowd = loaded.one, loaded.many
    figures = [
        Figure(
            "/classify, one connection, median over the time in process", single["median_s"] / limit.alone_s, "<= 2.5"
        ),
        Figure("/classify, 64 connections, rate over the graph in process", crowd["rate"] / limit.rate, bar),
        Figure("the same, 99th percentile over the median", crowd["p99_s"] / crowd["median_s"], "<= 3"),
        Figure("the same, answers other than 200", crowd["failed"], "<= 0"),
        Figure("/classify_batch, 2,000 cells a request, over the graph in process", many / limit.rate, ">= 0.85"),
        Figure("seconds from the start until ready", started, "<= 4"),
        Figure(
            f"own memory after {effort.requests:,} over {effort.requests // 10:,} requests", after / before, "<= 1.1"
        ),
        Figure("answers other than 200 in these", later["failed"], "<= 0"),
        Figure("own memory of all processes, MB", after / 1e6),
        Figure("/classify_batch, cells a second", many),
        Figure("/classify with the image as the body, requests a second", later["rate"]),
    ]
    return figures, loaded


def with_runner_process(folder: Path, bundle: Path, raws: list[bytes], effort: Effort) -> Loaded:
    """Load our own service with the networks in a process of their own, as on a GPU."""
    port = free_port()
    with serve(folder, bundle, port, runner_process=True):
        ready(f"http://127.0.0.1:{port}/readyz")
        return effort.load(folder, port, form("/classify", "image", raws[0]))


def measure(folder: Path, backbone: str, effort: Effort) -> list[Figure]:
    """Measure the service and its peers with a model of a backbone."""
    bundle = prepare(folder, backbone)
    raws = [path.read_bytes() for path in sorted((folder / "data").rglob("*_Ch1.ome.tif"))[:CELLS]]
    limit = in_process(bundle, raws)
    figures, own = ours(folder, bundle, raws, limit, OVER_LIMIT[backbone], effort)
    for name, result in peers(folder, bundle, register(bundle), raws, effort).items():
        bar = "<= 1" if name == "plain FastAPI" else None
        figures += [
            Figure(
                f"/classify, 64 connections, rate over {name}", own.many["rate"] / result.many["rate"], OVER_PEER[name]
            ),
            Figure(f"one connection, median over {name}", own.one["median_s"] / result.one["median_s"], bar),
            *described(name, result),
        ]
    figures += [
        *described("/classify", own),
        *described("with a runner process", with_runner_process(folder, bundle, raws, effort)),
        Figure("the graph in process, cells a second", limit.rate),
        Figure("its best batch", limit.batch),
        Figure("the graph in process, one cell, ms", 1000 * limit.alone_s),
    ]
    return [Figure(f"{backbone}: {figure.figure}", figure.value, figure.bar) for figure in figures]


def described(name: str, result: Loaded) -> list[Figure]:
    """Return the figures of a server that have no bar."""
    return [
        Figure(f"{name}: one connection, median ms", 1000 * result.one["median_s"]),
        Figure(f"{name}: {CONNECTIONS} connections, requests a second", result.many["rate"]),
        Figure(f"{name}: {CONNECTIONS} connections, median ms", 1000 * result.many["median_s"]),
        Figure(f"{name}: {CONNECTIONS} connections, 99th percentile ms", 1000 * result.many["p99_s"]),
        Figure(f"{name}: answers other than 200", result.one["failed"] + result.many["failed"]),
    ]


def main(
    backbone: Annotated[str, typer.Option(help="One of the two networks, such as compact; without it, both.")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="For which a server is loaded over 64 connections.")] = 30,
    requests: Annotated[int, typer.Option(min=1000, help="Over which memory is measured.")] = 100_000,
) -> None:
    """Measure, print and write the figures."""
    if find_spec("litserve") is None:
        raise DataError("LitServe is not installed; pip install -c constraints.txt -e '.[bench]'")
    chosen, effort = [backbone] if backbone else list(NETWORKS), Effort(seconds, requests)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    figures = []
    for each in chosen:
        with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
            figures += measure(Path(name), each, effort)
    publish("serving", figures, ["bentoml", "openvino", "onnxruntime", "torch", "mlflow", "litserve", "fastapi"], SEED)


if __name__ == "__main__":
    run(main)
