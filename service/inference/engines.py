"""Inference engines: which one runs the network of a bundle on this machine.

An engine is used only if it reproduces the predictions of the bundle. A caller may name one of ENGINES, and no other is
tried. Otherwise the order is: on a GPU, ONNX Runtime with CUDA, then PyTorch; on a CPU, OpenVINO in bf16 where the CPU
computes in bf16, OpenVINO in f32, then ONNX Runtime.
"""

import importlib.util
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from fatescope.errors import BundleError
from fatescope.inference import bundle, uncertainty
from fatescope.inference.bundle import Engine
from fatescope.inference.uncertainty import Prediction
from service.settings import EngineName

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_DIFFERENCE = 0.02
"""Largest difference of a probability that an engine of lower precision may show on the test tensors."""
_WARM_UP = (1, 8, 64)
"""Batch sizes that an engine runs once before it serves: some compile or allocate for a size when they first see it."""

Pixels = npt.NDArray[np.uint16]


class OpenVino:
    """The graph in OpenVINO; runs one inference at a time.

    The layers before the first convolutions are computed in f32 whatever the `precision` of the rest: bf16 has 8
    significant bits, too few for camera counts, and most of its error would arise there.
    """

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        import openvino  # noqa: PLC0415  not needed where a GPU runs the network

        core, halves = openvino.Core(), _split(openvino, folder / bundle.GRAPH)
        shared = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self._prepare, self._classify = (
            core.compile_model(half, "CPU", {**shared, "INFERENCE_PRECISION_HINT": hint}).create_infer_request()
            for half, hint in zip(halves, ("f32", precision), strict=True)
        )
        # Two threads must not use one infer request at the same time.
        self._lock = threading.Lock()

    def predict(self, pixels: Pixels) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        images = pixels[:, None].astype(np.float32)
        with self._lock:
            prepared = self._prepare.infer([images], share_inputs=True)
            outputs = self._classify.infer(list(prepared.values()), share_inputs=True)
            # Copied, because the next inference writes to the same memory.
            return Prediction(*(np.array(output) for output in outputs.values()))


def _split(openvino: Any, path: Path) -> tuple[Any, Any]:  # noqa: ANN401  OpenVINO has no types
    """Read a graph as two models: up to the first convolutions, and from there to the outputs of a Prediction."""
    graph, downstream, cuts = openvino.Core().read_model(path), dict[str, bool](), dict[str, Any]()
    for node in graph.get_ordered_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        follows = any(downstream[source.get_node().get_friendly_name()] for source in sources)
        convolution = node.get_type_name() == "Convolution"
        downstream[node.get_friendly_name()] = follows or convolution
        if convolution and not follows:
            cuts[sources[0].get_any_name() if sources[0].get_names() else str(len(cuts))] = sources[0]
    first = openvino.Model(list(cuts.values()), graph.get_parameters(), "prepare")
    inputs = []
    for cut in cuts.values():
        inputs.append(openvino.opset13.parameter(cut.get_partial_shape(), np.float32))
        for target in cut.get_target_inputs():
            if target.get_node().get_type_name() == "Convolution":
                target.replace_source_output(inputs[-1].output(0))
    outputs = {name: output for output in graph.outputs for name in output.get_names()}
    results = [outputs[name].get_node().input(0).get_source_output() for name in bundle.OUTPUTS]
    return first, openvino.Model(results, inputs, "classify")


class Torch:
    """The network in PyTorch, in eager mode and float32."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        import torch  # noqa: PLC0415  gigabytes, which a service on ONNX Runtime does not need

        from fatescope.networks import network  # noqa: PLC0415  it imports torch

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._network = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS).to(device)

    def predict(self, pixels: Pixels) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        with self._torch.inference_mode():
            images = self._torch.from_numpy(pixels[:, None].astype(np.float32)).to(self._device)
            return Prediction(*(output.float().cpu().numpy() for output in self._network(images)))


ENGINES: dict[EngineName, Callable[[Path, int], Engine]] = {
    "cuda": lambda folder, threads: bundle.Graph(folder / bundle.GRAPH, threads, "CUDAExecutionProvider"),
    "torch-cuda": lambda folder, threads: Torch(folder, "cuda", threads),
    "openvino-bf16": lambda folder, threads: OpenVino(folder, "bf16", threads),
    "openvino": lambda folder, threads: OpenVino(folder, "f32", threads),
    "onnxruntime": lambda folder, threads: bundle.Graph(folder / bundle.GRAPH, threads),
    "torch": lambda folder, threads: Torch(folder, "cpu", threads),
}
"""Name → how to load a bundle folder into the engine, to run on a number of CPU threads."""


def start(
    folder: Path, engine: EngineName | None = None, threads: int | None = None
) -> tuple[bundle.Bundle, EngineName]:
    """Load the bundle in `folder` into `engine`, or into the first candidate that works; return it and the name.

    `threads` are the CPU threads of an inference, None one per available core. Raises BundleError if the bundle is
    damaged, or if no engine reproduces its test logits.
    """
    threads = threads or available_cores()
    loaded = bundle.load(folder, threads)
    loaded.check()
    reasons = []
    for name in [engine] if engine else candidates():
        try:
            running = ENGINES[name](folder, threads)
            disagreement = compare(running.predict(loaded.example), loaded.expected)
        # A missing or outdated driver shows itself in as many ways as there are drivers.
        except Exception as error:  # noqa: BLE001  see above
            disagreement = f"{type(error).__name__}: {error}"
        if disagreement is None:
            for size in _WARM_UP:
                running.predict(np.resize(loaded.example, (size, *loaded.spec.canvas)))
            return loaded.with_engine(running), name
        reasons.append(f"{name}: {disagreement}")
        log.warning("%s: engine %s", folder, reasons[-1])
    raise BundleError(f"{folder}: no engine runs it on this machine ({'; '.join(reasons)})")


def candidates() -> list[EngineName]:
    """Return the names of the engines that this machine may have, best first."""
    names: list[EngineName] = []
    if gpus():
        names += ["cuda"] if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
        names += ["torch-cuda"] if importlib.util.find_spec("torch") else []
    if importlib.util.find_spec("openvino"):
        import openvino  # noqa: PLC0415  as above

        capabilities = cast("list[str]", openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        names += ["openvino-bf16"] if "BF16" in capabilities else []
        names += ["openvino"]
    return [*names, "onnxruntime"]


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


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def select_gpu(index: int) -> None:
    """Restrict this process to one of the GPUs that it may use, number `index` modulo their count."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus())))).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = allowed[index % len(allowed)]


def gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without loading a framework."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return len([name for name in allowed.split(",") if name.strip() and name.strip() != "-1"])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal()])
