"""Run one inference library on a graph of one addition: `python -m fatescope.cli.probe NAME` prints what it found.

A process of its own, because a library that was built for another processor or driver may end the process it is in.
"""

import base64
import json
import sys
from collections.abc import Callable

import numpy as np

GRAPH = base64.b64decode("CAgSADo1Cg4KAXgKAXgSAXkiA0FkZBIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=")
"""An ONNX model that returns x + x of a float32 x of shape (1,)."""


def probe_onnxruntime() -> tuple[str, str]:
    """Return the version of ONNX Runtime and the devices that it can use."""
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    usable = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in providers]
    session = onnxruntime.InferenceSession(GRAPH, providers=usable)
    _check(session.run(None, {"x": np.ones(1, np.float32)})[0])
    # A provider that was compiled in but finds no driver is dropped from the session.
    running = [name.removesuffix("ExecutionProvider") for name in session.get_providers()]
    return onnxruntime.__version__, " and ".join(sorted(running))


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
        _check(torch.ones(1, device="cuda").add(1).cpu().numpy())
        devices.append("CUDA")
    return torch.__version__, " and ".join(devices)


def _check(result: np.ndarray) -> None:
    if result.item() != 2:
        raise ArithmeticError(f"1 + 1 gives {result.item()}")


PROBES: dict[str, Callable[[], tuple[str, str]]] = {
    "onnxruntime": probe_onnxruntime,
    "openvino": probe_openvino,
    "torch": probe_torch,
}


if __name__ == "__main__":
    version, devices = PROBES[sys.argv[1]]()
    print(json.dumps({"version": version, "devices": devices}))
