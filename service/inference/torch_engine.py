"""The network of a bundle in PyTorch: as it is on a CPU; in lower precision and from recorded graphs on a GPU."""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fatescope.data.crops import stacked
from fatescope.inference import bundle, cuda
from fatescope.inference.buckets import bucket, split
from fatescope.inference.uncertainty import Prediction
from fatescope.networks import network
from fatescope.networks.network import Ensemble, Network, Outputs
from fatescope.networks.recording import record

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

WARM_UP = 3
"""Runs before a graph is recorded: libraries set themselves up in the first, and choose algorithms."""

Pixels = npt.NDArray[np.uint16]
Run = Callable[[], tuple[Tensor, ...]]
"""Runs the network on the cells in its buffer, and returns its outputs."""


class Torch:
    """The network on a CPU, in eager mode and float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS)

    @torch.inference_mode()
    def predict(self, pixels: Pixels, *, maps: bool = True) -> Prediction:
        """Classify pixels as an Engine does."""
        outputs = self._network(torch.from_numpy(stacked(pixels).astype(np.float32)))
        return Prediction.of(*(output.numpy() for output in (outputs if maps else outputs[:-1])))


class Device(Protocol):
    """The GPU that TorchOnGpu runs on, or what stands for it in a test."""

    name: str
    """As PyTorch calls it."""
    dtype: torch.dtype
    """What it computes convolutions in."""

    def stream(self) -> AbstractContextManager[object]:
        """Return the context in which all work is sent to one stream."""

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return memory of the machine that the GPU copies from and to by itself."""

    def record(self, run: Run) -> Run:
        """Return what repeats `run` on the same memory, in one launch."""

    def wait(self) -> None:
        """Wait until all that was sent to the stream is done."""


class Gpu:
    """The first GPU that this process may use."""

    name = "cuda"

    def __init__(self) -> None:
        # Cards before Ampere compute bf16 in software.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        self.dtype = torch.bfloat16 if native else torch.float16
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def stream(self) -> AbstractContextManager[object]:
        """Return the context in which all work is sent to one stream."""
        return cast("AbstractContextManager[object]", torch.cuda.stream(self._stream))

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return memory of the machine that the GPU copies from and to by itself."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def record(self, run: Run) -> Run:
        """Return what repeats `run` on the same memory, in one launch; raises RuntimeError where it cannot be recorded.

        The graphs of a device share the memory of their intermediate results, because only one runs at a time.
        """
        # Few sizes, each of which is run for long: worth trying the algorithms.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            for _ in range(WARM_UP):
                run()
            self._stream.synchronize()
            # Other threads use the GPU meanwhile: the version that this one replaces still answers.
            graph, outputs = record(run, self._pool, self._stream)

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return replay

    def wait(self) -> None:
        """Wait until all that was sent to the stream is done."""
        self._stream.synchronize()


@dataclass(frozen=True)
class _Batch:
    """The buffers of a size of batch, and what runs the network on them."""

    given: npt.NDArray[np.uint16]
    """(B, C, H, W): the same memory as `pinned`."""
    pinned: Tensor
    on_device: Tensor
    run: Run
    results: tuple[Tensor, ...]
    """Pinned memory for the outputs."""


class TorchOnGpu:
    """The network on a GPU: one batch at a time, padded to a size of `fatescope.inference.buckets`.

    Convolutions are computed in bf16, or fp16 where the card has no bf16, with channels last; the layers before them
    and the head in float32, for the reason that OpenVino has. For each size, the launches of all layers are recorded
    once and then repeated as one: a small batch is computed faster than its layers are launched.
    """

    def __init__(self, folder: Path, threads: int, device: Device | None = None) -> None:
        torch.set_num_threads(threads)
        self._device = device or Gpu()
        with self._device.stream(), torch.inference_mode():
            restored = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS).to(self._device.name)
            self._network = reduce_precision(restored, self._device.dtype)
        self._batches: dict[tuple[int, bool], _Batch] = {}
        """Size and whether maps are asked for → what computes them, and no more than that."""
        self._records = True
        """Whether graphs can be recorded."""
        self._lock = threading.Lock()

    def predict(self, pixels: Pixels, *, maps: bool = True) -> Prediction:
        """Classify pixels as an Engine does."""
        # The mode belongs to a thread, and so does the stream.
        with self._lock, self._device.stream(), torch.inference_mode():
            return Prediction.concatenate([self._classify(part, maps) for part in split(stacked(pixels))])

    def _classify(self, cells: Pixels, maps: bool) -> Prediction:
        count, size = len(cells), bucket(len(cells))
        if (size, maps) not in self._batches:
            self._batches[size, maps] = self._prepare(cells[:1], size, maps)
        batch = self._batches[size, maps]
        # The rest are cells of earlier calls, or copies of the first one.
        batch.given[:count] = cells
        batch.on_device.copy_(batch.pinned, non_blocking=True)
        outputs = batch.run()
        # The last output has no cells where maps are not asked for.
        for result, output in zip(batch.results, outputs, strict=False):
            result[:count].copy_(output[:count], non_blocking=True)
        self._device.wait()
        # Copied, because the next call writes to the same memory.
        return Prediction.of(*(result[:count].numpy().copy() for result in batch.results))

    def _prepare(self, cell: Pixels, size: int, maps: bool) -> _Batch:
        shape = (size, *cell.shape[1:])
        # Signed, because PyTorch has few operations on uint16; the mask restores the values.
        pinned = self._device.pinned(shape, torch.int16)
        given = pinned.numpy().view(np.uint16)
        given[:] = cell
        on_device = pinned.to(self._device.name, copy=True)

        def run() -> Outputs:
            return cast("Outputs", self._network((on_device.to(torch.int32) & 0xFFFF).float(), maps))

        repeat = self._record(run)
        outputs = repeat()[: None if maps else -1]
        results = tuple(self._device.pinned(tuple(output.shape), output.dtype) for output in outputs)
        return _Batch(given, pinned, on_device, repeat, results)

    def _record(self, run: Run) -> Run:
        if self._records:
            try:
                return self._device.record(run)
            except RuntimeError as error:
                if cuda.is_fatal(error):
                    raise
                log.warning("PyTorch cannot record the network (%s); it is launched layer by layer", error)
                self._records = False
        return run


class _Reduced(nn.Module):
    """A backbone that computes in lower precision, from float32 images to a float32 feature map."""

    def __init__(self, features: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        for layer in features.modules():
            # Once here, rather than by autocast in each call; normalisation keeps its statistics in float32.
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(dtype)
        self._features, self._dtype = features.to(memory_format=torch.channels_last), dtype

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, C, h, w) feature map of preprocessed images."""
        lower = self._dtype != torch.float32
        with torch.autocast(images.device.type, self._dtype, enabled=lower, cache_enabled=False):
            return cast("Tensor", self._features(images.contiguous(memory_format=torch.channels_last)).float())


def reduce_precision(whole: Network | Ensemble, dtype: torch.dtype) -> Network | Ensemble:
    """Have the backbones of a network compute in `dtype`, and return it."""
    members = whole.members if isinstance(whole, Ensemble) else [whole]
    for member in cast("list[Network]", list(members)):
        member.features = _Reduced(member.features, dtype)
    return whole
