"""What `fatescope doctor` finds of inference: libraries, GPUs, and the engine that the service would take.

Each library is tried in a process of its own, which it may end.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

from fatescope import plural
from fatescope.inference import cuda
from fatescope.inference.engine_names import GPU_ENGINES

ENGINES = {"onnxruntime": "pip install -e .", "openvino": "pip install -e '.[service]'",
           "torch": "pip install -e '.[pipelines]'"}  # fmt: skip
ONNXRUNTIME_GPU = "pip uninstall onnxruntime; pip install 'onnxruntime-gpu[cuda,cudnn]'"
PROBE_S = 120.0

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    name: str
    state: State
    detail: str
    required: bool = False
    """Whether nothing works without it."""
    remedy: str = ""
    """The line that mends it."""


def check_engines(required: tuple[str, ...]) -> list[Check]:
    """Run a graph of one addition in each inference library, side by side."""
    probes = {name: _start_probe("probe", name) for name in ENGINES}
    return [engine_check(name, process, name == "onnxruntime" or name in required) for name, process in probes.items()]


def _start_probe(module: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"fatescope.cli.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _answer(process: "subprocess.Popen[str]") -> tuple[dict[str, Any] | None, str]:
    """Wait for a probe, and return what it found, or None and the reason."""
    try:
        output, errors = process.communicate(timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, f"did not answer in {PROBE_S:.0f} s"
    if process.returncode == 0:
        return json.loads(output), ""
    if process.returncode < 0:
        return None, f"cannot run here: {signal.Signals(-process.returncode).name}"
    return None, (errors.strip().splitlines() or ["no message"])[-1]


def engine_check(name: str, process: "subprocess.Popen[str]", required: bool) -> Check:
    """Wait for the probe of an engine, and return what it found."""
    found, reason = _answer(process)
    if found is not None:
        return Check(name, "ok", f"{found['version']}, runs on {found['devices']}", required)
    remedy = "" if reason.startswith("did not answer") else ENGINES[name]
    return Check(name, "missing", reason, required, remedy)


def check_decoding() -> Check:
    """Start a process that decodes files, in a process of its own."""
    return decoding_check(_start_probe("probe_decoding"))


def decoding_check(process: "subprocess.Popen[str]") -> Check:
    """Wait for the probe of decoding, and return what it found."""
    found, reason = _answer(process)
    if found is not None:
        return Check("decoding", "ok", "processes that decode files can be started")
    detail = f"no process that decodes files can be started: {reason}; the service answers compressed images with 503"
    return Check("decoding", "warning", detail, remedy="python -m fatescope.cli.probe_decoding")


def check_inference() -> list[Check]:
    """Ask in a process of its own which engine the service would take, and what a GPU lacks for it."""
    found, reason = _answer(_start_probe("probe_inference"))
    if found is None:
        return [Check("inference", "warning", f"cannot be tried: {reason}")]
    return inference_checks(found, cuda.devices(), *map(os.environ.get, ("CUDA_VISIBLE_DEVICES", "FATESCOPE_ENGINE")))


def inference_checks(
    found: dict[str, Any], devices: int, allowed: str | None = None, named: str | None = None
) -> list[Check]:
    """Return what is said of the findings of `fatescope.cli.probe_inference`, where `devices` GPUs have a device file.

    `allowed` is CUDA_VISIBLE_DEVICES, and `named` FATESCOPE_ENGINE.
    """
    engine, gpus = found["engine"], found["gpus"]
    if engine is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in found["unusable"].items())
        return [Check("inference", "warning", f"no engine runs here ({why})", remedy=ENGINES["onnxruntime"])]
    asked = f"; FATESCOPE_ENGINE={named} is tried alone" if named else ""
    if not gpus:
        hides = devices and allowed is not None
        hidden = f"; CUDA_VISIBLE_DEVICES={allowed} hides {plural.count(devices, 'GPU')}" if hides else ""
        return [Check("inference", "ok", f"the service takes the engine {engine}{hidden}{asked}")]
    memory = found["gpu_memory_bytes"]
    size = f"the first with {memory / 1e9:.1f} GB" if memory else "whose driver does not answer"
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in found["providers"])
    library = "; ".join(found["not_preloaded"]) or "its libraries for CUDA load"
    if "cuda" in found["unusable"]:
        library = "; ".join(dict.fromkeys([*found["not_preloaded"], found["unusable"]["cuda"]]))
    checks = [
        Check("visible GPUs", "ok" if memory else "warning", f"{gpus}, {size}", remedy="" if memory else "nvidia-smi"),
        Check(
            "CUDA in ONNX Runtime",
            "warning" if "cuda" in found["unusable"] else "ok",
            f"built for {providers}; {library}",
            remedy=ONNXRUNTIME_GPU if "cuda" in found["unusable"] else "",
        ),
    ]
    if engine in GPU_ENGINES:
        return [*checks, Check("inference", "ok", f"the service takes the engine {engine}{asked}")]
    why = "; ".join(f"{name}: {found['unusable'].get(name, 'not tried')}" for name in GPU_ENGINES)
    detail = f"the service leaves the GPU and takes the engine {engine} ({why}){asked}"
    return [*checks, Check("inference", "warning", detail, remedy="python -m fatescope.cli.probe_inference")]
