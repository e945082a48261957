"""Raw pixels of batches, from the memory of the GPU that trains where they fit, else from the memory map."""

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fatescope import plural
from fatescope.data.crops import stacked
from fatescope.networks.preprocessing import widen
from pipelines.training import distributed
from pipelines.training.batches import Batch, Indices, Loader
from pipelines.training.device import free_memory, upload
from pipelines.training.prefetching import PrefetchLoader

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that pixels may take; the network and its gradients need the rest."""
COPY_ROWS = 4096
"""Cells that are copied to the device at a time."""


def open_loaders(pixels: npt.NDArray[np.uint16], parts: Sequence[Indices], device: torch.device) -> list[Loader]:
    """Return loaders of the rows in `parts` of `pixels`, which may be a memory map, onto `device`, for many passes.

    On a GPU, as many parts as fit into MEMORY_SHARE of its free memory are kept there, the first ones first. All
    processes that train together do the same, by the GPU that has the least: each of them must call this.
    """
    if device.type != "cuda":
        return [MemmapLoader(pixels, device) for _ in parts]
    room = MEMORY_SHARE * distributed.smallest(free_memory(device))
    loaders = list[Loader]()
    for rows in parts:
        size = len(rows) * pixels[0].nbytes
        loader = keep_on_device(pixels, rows, device) if size < room else None
        room -= size if loader is not None else 0
        loaders.append(loader or open_stream(pixels, device))
    return loaders


def open_stream(pixels: npt.NDArray[np.uint16], device: torch.device) -> Loader:
    """Return a loader that reads `pixels` anew in each pass, ahead of the GPU where `device` is one."""
    return PrefetchLoader(pixels, device) if device.type == "cuda" else MemmapLoader(pixels, device)


def keep_on_device(pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> "DeviceLoader | None":
    """Return a loader with the pixels of `rows` on a GPU; None where another process has just taken the memory."""
    try:
        return DeviceLoader(pixels, rows, device)
    except torch.OutOfMemoryError:
        cells, they = plural.count(len(rows), "cell does", "cells do"), plural.agree(len(rows), "it is", "they are")
        log.warning("%s not fit into the memory of the GPU; %s read from disk in each epoch", cells, they)
        return None


class MemmapLoader:
    """Reads each batch from the array, which may be a memory map: the system pages it in and out."""

    def __init__(self, pixels: npt.NDArray[np.uint16], device: torch.device) -> None:
        self._pixels, self._device = pixels, device

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`."""
        images = torch.from_numpy(stacked(self._pixels[rows].astype(np.float32)))
        return images.to(self._device, non_blocking=True)

    def load_batches(self, batches: Iterable[Indices]) -> Iterator[Batch]:
        """Yield each batch as it is asked for."""
        return (Batch(rows, self(rows)) for rows in batches)


class DeviceLoader:
    """Keeps the pixels on the device as 16-bit integers, so that nothing is copied while training."""

    def __init__(self, pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> None:
        self._positions = np.full(len(pixels), -1, np.int64)
        self._positions[rows] = np.arange(len(rows))
        # Signed, see `widen`.
        self._store = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.int16, device=device)
        for start in range(0, len(rows), COPY_ROWS):
            block = np.ascontiguousarray(pixels[rows[start : start + COPY_ROWS]]).view(np.int16)
            self._store[start : start + COPY_ROWS] = torch.from_numpy(block).to(device)

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`, which must be among those that the loader was made with."""
        positions = self._positions[rows]
        assert (positions >= 0).all(), "rows that the loader was not made with"
        return widen(self._store[upload(positions, self._store.device)])

    def load_batches(self, batches: Iterable[Indices]) -> Iterator[Batch]:
        """Yield each batch as it is asked for."""
        return (Batch(rows, self(rows)) for rows in batches)
