"""What runs the network of a bundle: chosen for the machine, and only where it says what the bundle says.

`FATESCOPE_ENGINE` names one of ENGINES, and no other is tried. Without it: CUDA where there is a GPU, through ONNX
Runtime or else PyTorch; on a CPU OpenVINO in bf16 where the CPU computes in it, in f32, or else ONNX Runtime.
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

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

ENGINE, THREADS = "FATESCOPE_ENGINE", "FATESCOPE_THREADS"
FAR = 0.02
"""The largest difference of a probability that an engine of lower precision may show on the test tensors."""

Pixels = npt.NDArray[np.uint16]


class OpenVino:
    """The graph in OpenVINO; one inference at a time.

    What comes before the first convolutions is computed in f32 whatever the `precision` of the others: a bf16 has 8
    bits, too few for the counts of a camera, and most of its error would come from there.
    """

    def __init__(self, folder: Path, precision: str) -> None:
        import openvino  # noqa: PLC0415  not where a GPU does the work

        core, steps = openvino.Core(), _split(openvino, folder / bundle.GRAPH)
        shared = {"INFERENCE_NUM_THREADS": threads(), "NUM_STREAMS": 1}
        self._prepare, self._classify = (
            core.compile_model(step, "CPU", {**shared, "INFERENCE_PRECISION_HINT": each}).create_infer_request()
            for step, each in zip(steps, ("f32", precision), strict=True)
        )
        # A request must not be used by two threads at once.
        self._lock = threading.Lock()

    def predict(self, pixels: Pixels) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        images = pixels[:, None].astype(np.float32)
        with self._lock:
            prepared = self._prepare.infer([images], share_inputs=True)
            found = self._classify.infer(list(prepared.values()), share_inputs=True)
            # Copied, because the next inference writes to the same memory.
            return Prediction(*(np.array(each) for each in found.values()))


def _split(openvino: Any, path: Path) -> tuple[Any, Any]:  # noqa: ANN401  it has no types
    """Read a graph as two: up to the first convolutions, and from there to the outputs of a Prediction."""
    graph, before, cuts = openvino.Core().read_model(path), dict[str, bool](), dict[str, Any]()
    for node in graph.get_ordered_ops():
        sources = [each.get_source_output() for each in node.inputs()]
        follows = any(before[each.get_node().get_friendly_name()] for each in sources)
        convolution = node.get_type_name() == "Convolution"
        before[node.get_friendly_name()] = follows or convolution
        if convolution and not follows:
            cuts[sources[0].get_any_name() if sources[0].get_names() else str(len(cuts))] = sources[0]
    first = openvino.Model(list(cuts.values()), graph.get_parameters(), "prepare")
    inputs = []
    for cut in cuts.values():
        inputs.append(openvino.opset13.parameter(cut.get_partial_shape(), np.float32))
        for target in cut.get_target_inputs():
            if target.get_node().get_type_name() == "Convolution":
                target.replace_source_output(inputs[-1].output(0))
    named = {name: each for each in graph.outputs for name in each.get_names()}
    results = [named[name].get_node().input(0).get_source_output() for name in bundle.OUTPUTS]
    return first, openvino.Model(results, inputs, "classify")


class Torch:
    """The network in PyTorch, eagerly and in float32."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch  # noqa: PLC0415  gigabytes, which a service on ONNX Runtime need not have

        from fatescope.networks import network  # noqa: PLC0415  it imports torch

        torch.set_num_threads(threads())
        self._torch, self._device = torch, device
        self._network = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS).to(device)

    def predict(self, pixels: Pixels) -> Prediction:
        """Classify (B, H, W) raw pixels on the canvas."""
        with self._torch.inference_mode():
            images = self._torch.from_numpy(pixels[:, None].astype(np.float32)).to(self._device)
            return Prediction(*(each.float().cpu().numpy() for each in self._network(images)))


def _cuda(folder: Path) -> Engine:
    return bundle.Graph(folder / bundle.GRAPH, threads(), "CUDAExecutionProvider")


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "cuda": _cuda,
    "torch-cuda": lambda folder: Torch(folder, "cuda"),
    "openvino-bf16": lambda folder: OpenVino(folder, "bf16"),
    "openvino": lambda folder: OpenVino(folder, "f32"),
    "onnxruntime": lambda folder: bundle.Graph(folder / bundle.GRAPH, threads()),
    "torch": lambda folder: Torch(folder, "cpu"),
}


def start(folder: Path) -> tuple[bundle.Bundle, str]:
    """Load the bundle in `folder` into the first engine that fits this machine, and warm it; return the engine's name.

    Raises BundleError where the bundle is damaged, or where no engine gives its test logits.
    """
    loaded = bundle.load(folder, threads())
    loaded.check()
    reasons = []
    named = os.environ.get(ENGINE)
    if named and named not in ENGINES:
        raise BundleError(f"{ENGINE}={named}: no such engine; there are {sorted(ENGINES)}")
    for name in [named] if named else candidates():
        try:
            engine = ENGINES[name](folder)
            disagreement = compare(engine.predict(loaded.example), loaded.expected)
        # A driver that is missing or too old shows itself in as many ways as there are drivers.
        except Exception as error:  # noqa: BLE001  see above
            disagreement = f"{type(error).__name__}: {error}"
        if disagreement is None:
            for size in (1, 8, 64):
                engine.predict(np.resize(loaded.example, (size, *loaded.spec.canvas)))
            return loaded.with_engine(engine), name
        reasons.append(f"{name}: {disagreement}")
        log.warning("%s is not run by %s", folder, reasons[-1])
    raise BundleError(f"{folder}: no engine runs it here ({'; '.join(reasons)})")


def candidates() -> list[str]:
    """Return the names of the engines that this machine may have, the best first."""
    found = []
    if gpus():
        found += ["cuda"] if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
        found += ["torch-cuda"] if importlib.util.find_spec("torch") else []
    if importlib.util.find_spec("openvino"):
        import openvino  # noqa: PLC0415  as above

        capable = cast("list[str]", openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        found += ["openvino-bf16"] if "BF16" in capable else []
        found += ["openvino"]
    return [*found, "onnxruntime"]


def compare(found: Prediction, expected: npt.NDArray[np.float32]) -> str | None:
    """Return how `found` differs from the (B, K) `expected` logits where that would change an answer."""
    ours, theirs = found.probabilities, uncertainty.softmax(expected)
    difference = float(np.abs(ours - theirs).max())
    # Written so that a NaN fails.
    if not difference <= FAR:
        return f"probabilities differ by {difference:.2g}, more than {FAR}"
    if (ours.argmax(1) != theirs.argmax(1)).any():
        return "another class is the most probable one"
    return None


def threads() -> int:
    """Return how many CPU threads one inference takes: FATESCOPE_THREADS, else the cores of this process."""
    return int(os.environ.get(THREADS) or len(os.sched_getaffinity(0)))


def take_gpu(place: int) -> None:
    """Leave this process one GPU of those that it may use, the `place`-th of them, round and round."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus())))).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = allowed[place % len(allowed)]


def gpus() -> int:
    """Return how many GPUs of NVIDIA this process may use, without loading a framework."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return len([each for each in allowed.split(",") if each.strip() and each.strip() != "-1"])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal()])
