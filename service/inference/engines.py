"""Inference engines: which one runs the network of a bundle on this machine.

An engine is used only if it reproduces the predictions of the bundle. A caller may name one of ENGINES, and no other is
tried; `gpu` are those that run on a GPU. Otherwise the order is: on a GPU, ONNX Runtime with CUDA, then PyTorch; on a
CPU, OpenVINO in bf16 where the CPU computes in bf16, OpenVINO in f32, then ONNX Runtime.
"""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from fatescope.errors import BundleError
from fatescope.inference import bundle, cuda, uncertainty
from fatescope.inference.buckets import BUCKETS
from fatescope.inference.bundle import Engine
from fatescope.inference.cuda import gpus, select_gpu
from fatescope.inference.engine_names import GPU_ENGINES, EngineChoice, EngineName
from fatescope.inference.uncertainty import Prediction
from fatescope.processes import available_cores
from service.inference.openvino_engine import OpenVino

__all__ = [
    "ENGINES",
    "GpuLostError",
    "NoEngineError",
    "OpenVino",
    "available_cores",
    "candidates",
    "compare",
    "gpu_candidates",
    "gpus",
    "select_gpu",
    "start",
]

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_DIFFERENCE = 0.02
"""Largest difference of a probability that an engine of lower precision may show on the test tensors."""
_WARM_UP = (1, 8, 64)
"""Batch sizes that an engine of a CPU runs once before it serves, because some compile or allocate for a size when they
first see it; those of a GPU run all of theirs."""


def _cuda(folder: Path, threads: int, memory_share: float = cuda.MEMORY_SHARE) -> Engine:
    return bundle.Graph(folder / bundle.GRAPH, threads, cuda.PROVIDER, memory_share)


def _torch(folder: Path, threads: int) -> Engine:
    from service.inference.torch_engine import Torch  # noqa: PLC0415  gigabytes that a service mostly does without

    return Torch(folder, threads)


def _torch_cuda(folder: Path, threads: int) -> Engine:
    from service.inference.torch_engine import TorchOnGpu  # noqa: PLC0415  as above

    return TorchOnGpu(folder, threads)


ENGINES: dict[EngineName, Callable[..., Engine]] = {
    "cuda": _cuda,
    "torch-cuda": _torch_cuda,
    "openvino-bf16": lambda folder, threads: OpenVino(folder, "bf16", threads),
    "openvino": lambda folder, threads: OpenVino(folder, "f32", threads),
    "onnxruntime": lambda folder, threads: bundle.Graph(folder / bundle.GRAPH, threads),
    "torch": _torch,
}
"""Name → how to load a bundle folder into the engine, to run on a number of CPU threads; `cuda` also takes the share of
the memory of a GPU that it may take."""


class NoEngineError(BundleError):
    """No engine runs a bundle here."""


class GpuLostError(NoEngineError):
    """An error of a GPU that stays with this process: only a new process can use the GPU."""


def start(
    folder: Path,
    engine: EngineChoice | None = None,
    threads: int | None = None,
    memory_share: float = cuda.MEMORY_SHARE,
) -> tuple[bundle.Bundle, EngineName]:
    """Load the bundle in `folder` into `engine`, or into the first candidate that works; return it and the name.

    `threads` are the CPU threads that run it, None one per available core; `memory_share` is the share of the
    memory of a GPU that the network may take. Raises BundleError if the bundle is damaged, and NoEngineError if no
    engine reproduces its test logits; GpuLostError where the GPU is lost to this process, and others are not tried.
    """
    threads = threads or available_cores()
    loaded = bundle.load(folder, threads)
    loaded.check()
    names, reasons = _to_try(engine)
    for name in names:
        try:
            running = ENGINES[name](folder, threads, *([memory_share] if name == "cuda" else []))
            disagreement = compare(running.predict(loaded.example), loaded.expected)
            for size in BUCKETS if name in GPU_ENGINES else _WARM_UP:
                running.predict(np.resize(loaded.example, (size, *loaded.spec.shape)), maps=False)
            # Maps are drawn for one cell at a time.
            running.predict(loaded.example[:1])
        # A missing or outdated driver shows itself in as many ways as there are drivers.
        except Exception as error:
            disagreement = cuda.describe(error)
            if name in GPU_ENGINES and cuda.is_fatal(error):
                raise GpuLostError(f"{folder}: {name}: {disagreement}") from error
        if disagreement is None:
            return loaded.with_engine(running), name
        reasons.append(f"{name}: {disagreement}")
        log.warning("%s: engine %s", folder, reasons[-1])
    where = "a GPU of this machine" if engine == "gpu" else "this machine"
    raise NoEngineError(f"{folder}: no engine runs it on {where} ({'; '.join(reasons)})")


def _to_try(engine: EngineChoice | None) -> tuple[list[EngineName], list[str]]:
    """Return the engines to try for a choice, and why others are not."""
    if engine == "gpu":
        return gpu_candidates()
    if engine:
        return [engine], []
    if gpus():
        for reason in gpu_candidates()[1]:
            log.warning("there is a GPU, but not %s", reason)
    return candidates(), []


def candidates() -> list[EngineName]:
    """Return the names of the engines that this machine may have, best first."""
    names, _ = gpu_candidates()
    if importlib.util.find_spec("openvino"):
        import openvino  # noqa: PLC0415  as above

        capabilities = cast("list[str]", openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        names += ["openvino-bf16"] if "BF16" in capabilities else []
        names += ["openvino"]
    return [*names, "onnxruntime"]


def gpu_candidates() -> tuple[list[EngineName], list[str]]:
    """Return the names of the engines that may run on a GPU here, best first, and why the others cannot."""
    if not gpus():
        return [], ["this process sees no GPU of NVIDIA"]
    names, absent = list[EngineName](), list[str]()
    cuda.preload()
    if cuda.PROVIDER in onnxruntime.get_available_providers():
        names.append("cuda")
    else:
        absent.append("cuda: this ONNX Runtime was built without CUDA; install onnxruntime-gpu in its place")
    if importlib.util.find_spec("torch"):
        names.append("torch-cuda")
    else:
        absent.append("torch-cuda: PyTorch is not installed")
    return names, absent


def compare(prediction: Prediction, expected: npt.NDArray[np.float32]) -> str | None:
    """Return how `prediction` differs from the (B, K) `expected` logits, or None if no answer would change."""
    ours, theirs = prediction.probabilities, uncertainty.softmax(expected)
    difference = float(np.abs(ours - theirs).max())
    # Written so that NaN fails.
    if not difference <= MAX_DIFFERENCE:
        return f"probabilities differ by {difference:.2g}, more than {MAX_DIFFERENCE}"
    if (ours.argmax(1) != theirs.argmax(1)).any():
        return "another class is the most probable one"
    return None
