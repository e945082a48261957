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
"""Requests over which memory is measured; the first tenth warms up."""


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
    """Return the rate of the graph in this process in cells per second, with decoding, and its best batch size."""
    settings = ServiceSettings.read()
    model, name = engines.start(bundle, settings.engine, settings.threads)
    print(f"engine: {name}", flush=True)
    medians = {}
    for batch in BATCHES:
        rates = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            for start in range(0, len(raws), batch):
                centred = []
                for raw in raws[start : start + batch]:
                    [(_, pixels)] = images.decode(raw, "cell", 1_000_000)
                    centred.append(images.center(pixels, model.spec.canvas, "cell"))
                model.predict(np.stack(centred))
            rates.append(len(raws) / (time.perf_counter() - began))
        medians[batch] = median(rates)
    best = max(medians, key=lambda batch: medians[batch])
    return medians[best], best


def memory(process: subprocess.Popen[bytes]) -> float:
    """Return the memory in bytes that belongs to the processes of a server alone (USS)."""
    parent = psutil.Process(process.pid)
    return float(sum(member.memory_full_info().uss for member in [parent, *parent.children(recursive=True)]))


def ours(folder: Path, bundle: Path, raws: list[bytes], limit: float) -> tuple[list[Figure], float, float]:
    """Measure our own service; return the figures, and the rates in requests and in cells of batches per second."""
    port = free_port()
    began = time.perf_counter()
    with serve(folder, bundle, port) as process:
        ready(f"http://127.0.0.1:{port}/readyz")
        started = time.perf_counter() - began
        many = batches(port, raws)
        # In a form, as the peers receive it.
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
    """Load our service with eager PyTorch in fp32; return the result, and its cells per second in batches."""
    port = free_port()
    with serve(folder, bundle, port, "torch"):
        ready(f"http://127.0.0.1:{port}/readyz")
        many = batches(port, raws)
        return load(folder, port, form("/classify", "image", raws[0]), SECONDS), many


def peer(folder: Path, bundle: Path, command: list[str], probe: str, request: bytes, port: int) -> dict[str, Any]:
    """Start a peer by `command` and load it."""
    environment = {"FATESCOPE_BUNDLE": str(bundle), "PYTHONPATH": str(ROOT)}
    with ended(command, folder, environment):
        ready(f"http://127.0.0.1:{port}{probe}")
        return load(folder, port, request, SECONDS)


def peers(folder: Path, bundle: Path, address: str, raws: list[bytes]) -> dict[str, dict[str, Any]]:
    """Load every peer; return name → result."""
    python, results = sys.executable, {}
    port = free_port()
    address_options = ["--host", "127.0.0.1", "--port", str(port)]
    command = [python, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local", *address_options]
    [(_, pixels)] = images.decode(raws[0], "cell", 1_000_000)
    canvas = tuple(json.loads((bundle / "spec.json").read_text())["canvas"])
    centred = images.center(pixels, canvas, "cell")
    body = json.dumps({"inputs": centred[None].tolist()}, separators=(",", ":")).encode()
    sent = request("/invocations", "application/json", body)
    results["mlflow models serve"] = peer(folder, bundle, command, "/ping", sent, port)
    port = free_port()
    command, sent = [python, "-m", "benchmarks.peers.lit", "--port", str(port)], form("/predict", "request", raws[0])
    results["LitServe"] = peer(folder, bundle, command, "/health", sent, port)
    port = free_port()
    command = [python, "-m", "uvicorn", "benchmarks.peers.plain:app", "--port", str(port), "--log-level", "warning"]
    results["plain FastAPI"] = peer(folder, bundle, command, "/docs", form("/predict", "image", raws[0]), port)
    return results


def main() -> None:
    """Measure, print and write the figures."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        folder = Path(name)
        bundle = prepare(folder)
        raws = [path.read_bytes() for path in sorted((folder / "data").rglob("*_Ch1.ome.tif"))[:CELLS]]
        limit, best = in_process(bundle, raws)
        figures, rate, many = ours(folder, bundle, raws, limit)
        results = peers(folder, bundle, register(bundle), raws)
        results["our service on eager PyTorch"], eager_rate = eager(folder, bundle, raws)
        figures += [
            Figure("/classify_batch, cells a second over our service on eager PyTorch", many / eager_rate, ">= 3"),
            Figure("our service on eager PyTorch: /classify_batch, cells a second", eager_rate),
        ]
        bars = {"mlflow models serve": ">= 3", "our service on eager PyTorch": ">= 3"}
        for peer_name, result in results.items():
            figures += [
                Figure(
                    f"/classify, requests a second over {peer_name}", rate / result["rate"], bars.get(peer_name, ">= 1")
                ),
                Figure(f"{peer_name}: requests a second", result["rate"]),
                Figure(f"{peer_name}: median ms", 1000 * result["median_s"]),
                Figure(f"{peer_name}: 99th percentile ms", 1000 * result["p99_s"]),
                Figure(f"{peer_name}: answers other than 200", result["failed"]),
            ]
        figures += [Figure("the graph in process, cells a second", limit), Figure("its best batch", best)]
    publish("serving", figures, ["bentoml", "openvino", "onnxruntime", "torch", "mlflow", "litserve", "fastapi"], SEED)


if __name__ == "__main__":
    run(main)
