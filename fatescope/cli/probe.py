"""Run one inference library on a graph of one addition: `python -m fatescope.cli.probe NAME` prints what it found.

A process of its own, because a library that was built for another processor or driver may end the process it is in.
"""

import base64
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from fatescope.inference import cuda

GRAPH = base64.b64decode("CAgSADo1Cg4KAXgKAXgSAXkiA0FkZBIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=")
"""An ONNX model that returns x + x of a float32 x of shape (1,)."""


def probe_onnxruntime() -> tuple[str, str]:
    """Return the version of ONNX Runtime and the devices that it can use."""
    import onnxruntime

    devices = ["CPU"]
    _run_session(["CPUExecutionProvider"])
    if cuda.PROVIDER in onnxruntime.get_available_providers():
        # A provider that was compiled in may find no driver, or not its libraries.
        with contextlib.suppress(Exception):
            run_on_cuda()
            devices.append("CUDA")
    return onnxruntime.__version__, " and ".join(devices)


def run_on_cuda() -> None:
    """Run the graph in ONNX Runtime on a GPU, and nowhere else; raises whatever stands in the way."""
    said = cuda.preload()
    running = _run_session([(cuda.PROVIDER, cuda.provider_options(cuda.MEMORY_SHARE))])
    # It is dropped from the session where it cannot be loaded.
    if running[0] != cuda.PROVIDER:
        raise RuntimeError("; ".join(["ONNX Runtime cannot load its provider for CUDA", *said]))


def _run_session(providers: list[Any]) -> list[str]:
    """Run the graph, and return the providers that did."""
    import onnxruntime

    session = onnxruntime.InferenceSession(GRAPH, providers=providers, enable_fallback=0)
    _check(session.run(None, {"x": np.ones(1, np.float32)})[0])
    return cast("list[str]", session.get_providers())


def probe_openvino() -> tuple[str, str]:
    """Return the version of OpenVINO, and whether it computes in bf16 here."""
    import openvino

    core = openvino.Core()
    _check(core.compile_model(core.read_model(GRAPH), "CPU")(np.ones(1, np.float32))[0])
    capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return openvino.__version__.partition("-")[0], f"CPU, {'bf16 and f32' if capable else 'f32'}"


def probe_torch() -> tuple[str, str]:
    """Return the version of PyTorch and the devices that it can use."""
    import torch

    devices = ["CPU"]
    _check(torch.ones(1).add(1).numpy())
    if torch.cuda.is_available():
        run_torch_on_cuda()
        devices.append("CUDA")
    return torch.__version__, " and ".join(devices)


def run_torch_on_cuda() -> None:
    """Add in PyTorch on a GPU; raises whatever stands in the way."""
    import torch

    _check(torch.ones(1, device="cuda").add(1).cpu().numpy())


def _check(result: np.ndarray) -> None:
    if result.item() != 2:
        raise ArithmeticError(f"1 + 1 gives {result.item()}")


PROBES: dict[str, Callable[[], tuple[str, str]]] = {
    "onnxruntime": probe_onnxruntime,
    "openvino": probe_openvino,
    "torch": probe_torch,
}


if __name__ == "__main__":
    # Standard output is for the answer: libraries print to it what they please.
    with contextlib.redirect_stdout(sys.stderr):
        version, devices = PROBES[sys.argv[1]]()
    print(json.dumps({"version": version, "devices": devices}))
