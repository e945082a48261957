"""The ONNX graph of a bundle in ONNX Runtime, on the processor or on a GPU."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from fatescope.data.crops import stacked
from fatescope.errors import BundleError
from fatescope.inference import buckets, cuda
from fatescope.inference.raw_input import with_raw_input
from fatescope.inference.uncertainty import Prediction

OUTPUTS = ("logits", "embedding", "activation_map")
"""The outputs of the graph, in the order of the fields of Prediction."""

Floats = npt.NDArray[np.float32]


class Graph:
    """An ONNX graph in ONNX Runtime; several threads may call it at once.

    On a GPU it is given batches of the sizes of `fatescope.inference.buckets`, one at a time, as uint16 where the graph
    takes them.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        provider: str = "CPUExecutionProvider",
        memory_share: float = cuda.MEMORY_SHARE,
    ) -> None:
        """`memory_share` is the share of the memory of a GPU that the network may take."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: its warnings are about graph optimisation
        self._on_gpu = provider == cuda.PROVIDER
        if self._on_gpu:
            cuda.preload()
        model = with_raw_input(path.read_bytes()) if self._on_gpu else str(path)
        provider_options = cuda.provider_options(memory_share) if self._on_gpu else {}
        # ONNX Runtime would otherwise print an error of a provider, and go on with another, also in the middle of work.
        self._session = onnxruntime.InferenceSession(
            model, options, providers=[(provider, provider_options)], enable_fallback=0
        )
        # It also falls back where a library of the provider is missing.
        if self._session.get_providers()[0] != provider:
            said = "".join(f"; {line}" for line in cuda.preload()) if self._on_gpu else ""
            raise BundleError(f"{path}: ONNX Runtime cannot use {provider} on this machine{said}")
        [given] = self._session.get_inputs()
        self._input, self._dtype = given.name, np.uint16 if given.type == "tensor(uint16)" else np.float32
        # Each thread would take memory of the GPU for itself, and none would be done sooner.
        self._lock = threading.Lock()

    def predict(self, pixels: npt.NDArray[np.uint16], *, maps: bool = True) -> Prediction:
        """Run the graph as an Engine does."""
        cells = stacked(pixels)
        if not self._on_gpu:
            return self._run(cells, maps)
        with self._lock:
            parts = [self._run(buckets.pad(part), maps).head(len(part)) for part in buckets.split(cells)]
        return Prediction.concatenate(parts)

    def _run(self, cells: npt.NDArray[np.uint16], maps: bool) -> Prediction:
        # ONNX Runtime computes all, but what is not asked for stays on the GPU, and the maps are the largest.
        wanted = OUTPUTS if maps else OUTPUTS[:-1]
        given = {self._input: cells.astype(self._dtype, copy=False)}
        return Prediction.of(*self._session.run(list(wanted), given))
