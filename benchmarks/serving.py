"""Speed of the service beside what bounds it, and beside other services for the same model.

Run with `fatescope bench serving`; about a quarter of an hour. ResNet18 at 60x60, trained briefly on simulated cells,
on two cores that server and load share; the load comes from a process of its own (`benchmarks.load`).
- The limit is the same graph in this process: 2,000 files decoded and classified in batches of the best size.
- The peers are `mlflow models serve` on the registered model, LitServe and plain FastAPI with the same engine and
  decoder as ours, and our own service with the network run by PyTorch, eagerly and in fp32.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import mlflow
import numpy as np
import psutil

from benchmarks.report import Figure, publish
from benchmarks.service import CELLS, REPEATS, ROOT, SEED, TASK, batches, form, load, prepare, request, serve
from fatescope.command import run
from fatescope.data import images
from service.inference import engines
from service.settings import ServiceSettings
from tests.support.servers import ended, free_port, ready

BATCHES = (16, 32, 64, 128, 256)
SECONDS = 60
MANY = 100_000
"""Requests over which memory is watched; the first tenth warms up."""


def register(bundle: Path) -> str:
    """Register the bundle as `pipelines.stages.register` does, and return the address of the model."""
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ROOT / "pipelines" / "registry" / "pyfunc.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(ROOT / "fatescope")],
            pip_requirements=[],
            registered_model_name=f"fatescope-{TASK}",
        )
    return f"models:/fatescope-{TASK}/{info.registered_model_version}"


def in_process(bundle: Path, raws: list[bytes]) -> tuple[float, int]:
    """Return the cells a second of the graph in this process, decoding included, and its best batch."""
    settings = ServiceSettings.read()
    model, name = engines.start(bundle, settings.engine, settings.threads)
    print(f"engine: {name}", flush=True)
    found = {}
    for batch in BATCHES:
        rates = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            for start in range(0, len(raws), batch):
                placed = []
                for raw in raws[start : start + batch]:
                    [(_, pixels)] = images.decode(raw, "cell", 1_000_000)
                    placed.append(images.center(pixels, model.spec.canvas, "cell"))
                model.predict(np.stack(placed))
            rates.append(len(raws) / (time.perf_counter() - begun))
        found[batch] = median(rates)
    best = max(found, key=lambda batch: found[batch])
    return found[best], best


def memory(process: subprocess.Popen[bytes]) -> float:
    """Return what the processes of a server hold for themselves, bytes."""
    parent = psutil.Process(process.pid)
    return float(sum(each.memory_full_info().uss for each in [parent, *parent.children(recursive=True)]))


def ours(folder: Path, bundle: Path, raws: list[bytes], limit: float) -> tuple[list[Figure], float, float]:
    """Measure our own service; return the figures, the requests a second, and the cells a second in batches."""
    port = free_port()
    begun = time.perf_counter()
    with serve(folder, bundle, port) as process:
        ready(f"http://127.0.0.1:{port}/readyz")
        started = time.perf_counter() - begun
        many = batches(port, raws)
        # In a form, as the peers get it.
        single = load(folder, port, form("/classify", "image", raws[0]), SECONDS)
        as_body = load(folder, port, request("/classify", "application/octet-stream", raws[0]), SECONDS / 4)
        bare = request("/classify", "application/octet-stream", raws[0])
        load(folder, port, bare, 0, MANY // 10)
        before = memory(process)
        later = load(folder, port, bare, 0, MANY - MANY // 10)
        after = memory(process)
    return (
        [
            Figure("/classify_batch, 2,000 cells a request, over the graph in process", many / limit, ">= 0.8"),
            Figure("/classify_batch, cells a second", many),
            Figure("/classify at 64 connections for 60 s, answers other than 200", single["failed"], "<= 0"),
            Figure("/classify, requests a second", single["rate"]),
            Figure("/classify with the image as the body, requests a second", as_body["rate"]),
            Figure("/classify, median ms", 1000 * single["median_s"]),
            Figure("/classify, 99th percentile ms", 1000 * single["p99_s"]),
            Figure("seconds from the start until ready", started, "<= 10"),
            Figure("own memory after 100,000 over 10,000 requests", after / before, "<= 1.1"),
            Figure("answers other than 200 in these", later["failed"], "<= 0"),
            Figure("own memory of all processes, MB", after / 1e6),
        ],
        single["rate"],
        many,
    )


def eager(folder: Path, bundle: Path, raws: list[bytes]) -> tuple[dict[str, Any], float]:
    """Load our service with the network run by PyTorch, eagerly and in fp32; return also its cells a second."""
    port = free_port()
    with serve(folder, bundle, port, "torch"):
        ready(f"http://127.0.0.1:{port}/readyz")
        many = batches(port, raws)
        return load(folder, port, form("/classify", "image", raws[0]), SECONDS), many


def peer(folder: Path, bundle: Path, command: list[str], probe: str, request: bytes, port: int) -> dict[str, Any]:
    """Load a peer that `command` starts."""
    environment = {"FATESCOPE_BUNDLE": str(bundle), "PYTHONPATH": str(ROOT)}
    with ended(command, folder, environment):
        ready(f"http://127.0.0.1:{port}{probe}")
        return load(folder, port, request, SECONDS)


def peers(folder: Path, bundle: Path, address: str, raws: list[bytes]) -> dict[str, dict[str, Any]]:
    """Load each of the peers."""
    python, found = sys.executable, {}
    port = free_port()
    at = ["--host", "127.0.0.1", "--port", str(port)]
    command = [python, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local", *at]
    [(_, pixels)] = images.decode(raws[0], "cell", 1_000_000)
    canvas = tuple(json.loads((bundle / "spec.json").read_text())["canvas"])
    placed = images.center(pixels, canvas, "cell")
    body = json.dumps({"inputs": placed[None].tolist()}, separators=(",", ":")).encode()
    asked = request("/invocations", "application/json", body)
    found["mlflow models serve"] = peer(folder, bundle, command, "/ping", asked, port)
    port = free_port()
    command, asked = [python, "-m", "benchmarks.peers.lit", "--port", str(port)], form("/predict", "request", raws[0])
    found["LitServe"] = peer(folder, bundle, command, "/health", asked, port)
    port = free_port()
    command = [python, "-m", "uvicorn", "benchmarks.peers.plain:app", "--port", str(port), "--log-level", "warning"]
    found["plain FastAPI"] = peer(folder, bundle, command, "/docs", form("/predict", "image", raws[0]), port)
    return found


def main() -> None:
    """Measure, print and write the figures."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        bundle = prepare(folder)
        raws = [path.read_bytes() for path in sorted((folder / "data").rglob("*_Ch1.ome.tif"))[:CELLS]]
        limit, best = in_process(bundle, raws)
        figures, rate, many = ours(folder, bundle, raws, limit)
        told = peers(folder, bundle, register(bundle), raws)
        told["our service on eager PyTorch"], eagerly = eager(folder, bundle, raws)
        figures += [
            Figure("/classify_batch, cells a second over our service on eager PyTorch", many / eagerly, ">= 3"),
            Figure("our service on eager PyTorch: /classify_batch, cells a second", eagerly),
        ]
        bars = {"mlflow models serve": ">= 3", "our service on eager PyTorch": ">= 3"}
        for peer_name, found in told.items():
            figures += [
                Figure(
                    f"/classify, requests a second over {peer_name}", rate / found["rate"], bars.get(peer_name, ">= 1")
                ),
                Figure(f"{peer_name}: requests a second", found["rate"]),
                Figure(f"{peer_name}: median ms", 1000 * found["median_s"]),
                Figure(f"{peer_name}: 99th percentile ms", 1000 * found["p99_s"]),
                Figure(f"{peer_name}: answers other than 200", found["failed"]),
            ]
        figures += [Figure("the graph in process, cells a second", limit), Figure("its best batch", best)]
    publish("serving", figures, ["bentoml", "openvino", "onnxruntime", "torch", "mlflow", "litserve", "fastapi"], SEED)


if __name__ == "__main__":
    run(main)
