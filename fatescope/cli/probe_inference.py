"""Try the engines of the service on a graph of one addition: `python -m fatescope.cli.probe_inference` prints JSON.

A process of its own, as `fatescope.cli.probe` is. It needs what inference needs, and no more: no MLflow, no BentoML.
"""

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from sys import stderr

import onnxruntime

from fatescope.cli import probe
from fatescope.inference import cuda
from fatescope.inference.engine_names import EngineName
from service.inference import engines


@dataclass(frozen=True)
class Findings:
    """What inference has on this machine."""

    gpus: int
    """GPUs that this process may use."""
    gpu_memory_bytes: int | None
    """Of the first; None where the driver does not say."""
    providers: list[str]
    """Those that ONNX Runtime was built with."""
    not_preloaded: list[str]
    """What ONNX Runtime says of libraries of CUDA that it could not load."""
    unusable: dict[str, str]
    """Engine that was tried, or cannot be → why it does not run."""
    engine: EngineName | None
    """The first that runs, which the service would try first on a bundle."""


def examine() -> Findings:
    """Try the candidates of this machine in their order until one runs."""
    absent = dict(reason.split(": ", 1) for reason in engines.gpu_candidates()[1] if ": " in reason)
    taken = None
    for name in engines.candidates():
        try:
            RUN[name]()
        except Exception as error:  # noqa: BLE001  drivers have as many errors as they like
            absent[name] = cuda.describe(error)
        else:
            taken = name
            break
    return Findings(
        gpus=cuda.gpus(),
        gpu_memory_bytes=cuda.memory_bytes() if cuda.gpus() else None,
        providers=onnxruntime.get_available_providers(),
        not_preloaded=list(cuda.preload()) if cuda.gpus() else [],
        unusable=absent,
        engine=taken,
    )


RUN: dict[EngineName, Callable[[], object]] = {
    "cuda": probe.run_on_cuda,
    "torch-cuda": probe.run_torch_on_cuda,
    "openvino-bf16": probe.probe_openvino,
    "openvino": probe.probe_openvino,
    "onnxruntime": probe.probe_onnxruntime,
    "torch": probe.probe_torch,
}
"""Engine → what runs its library; raises where it cannot."""


if __name__ == "__main__":
    # Standard output is for the findings: libraries print to it what they please.
    with redirect_stdout(stderr):
        findings = examine()
    print(json.dumps(asdict(findings)))
