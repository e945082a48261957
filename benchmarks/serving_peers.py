"""Other services for the same model, loaded as `benchmarks.serving` loads ours."""

import json
import os
import sys
from pathlib import Path

import mlflow

from benchmarks.service import ROOT, TASK, Effort, Loaded, form, request
from fatescope.data import images
from fatescope.data.crops import center
from tests.support.servers import ended, free_port, ready


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


def peers(folder: Path, bundle: Path, address: str, raws: list[bytes], effort: Effort) -> dict[str, Loaded]:
    """Load every peer; return name → result."""
    python, results = sys.executable, {}
    port = free_port()
    address_options = ["--host", "127.0.0.1", "--port", str(port)]
    command = [python, "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local", *address_options]
    [(_, pixels)] = images.decode(raws[0], "cell", 1_000_000)
    canvas = tuple(json.loads((bundle / "spec.json").read_text())["canvas"])
    centred = center(pixels, canvas, "cell")
    body = json.dumps({"inputs": centred[None].tolist()}, separators=(",", ":")).encode()
    sent = request("/invocations", "application/json", body)
    results["mlflow models serve"] = peer(folder, bundle, command, "/ping", sent, port, effort)
    port = free_port()
    command, sent = [python, "-m", "benchmarks.peers.lit", "--port", str(port)], form("/predict", "request", raws[0])
    results["LitServe"] = peer(folder, bundle, command, "/health", sent, port, effort)
    port = free_port()
    command = [python, "-m", "uvicorn", "benchmarks.peers.plain:app", "--port", str(port), "--log-level", "warning"]
    results["plain FastAPI"] = peer(folder, bundle, command, "/docs", form("/predict", "image", raws[0]), port, effort)
    return results


def peer(folder: Path, bundle: Path, command: list[str], probe: str, sent: bytes, port: int, effort: Effort) -> Loaded:
    """Start a peer by `command` and load it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {"FATESCOPE_BUNDLE": str(bundle), "PYTHONPATH": path}
    with ended(command, folder, environment):
        ready(f"http://127.0.0.1:{port}{probe}")
        return effort.load(folder, port, sent)
