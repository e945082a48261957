"""Raw pixels of a batch, from the memory of the device that trains where they fit, else from the memory map."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]
MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that pixels may take; the network and its gradients need the rest."""
COPY_ROWS = 4096
"""Cells that are copied to the device at a time."""


class Loader(Protocol):
    """Returns raw pixels (B, 1, H, W), float32 on the device, of the rows that it is called with."""

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`."""


def open_loader(pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> Loader:
    """Return a loader of `rows` of (N, H, W) `pixels`, which may be a memory map, onto `device`."""
    size = len(rows) * pixels[0].nbytes
    if device.type == "cuda" and size < MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]:
        return DeviceLoader(pixels, rows, device)
    return MemmapLoader(pixels, device)


class MemmapLoader:
    """Reads each batch from the array, which may be a memory map: the system pages it in and out."""

    def __init__(self, pixels: npt.NDArray[np.uint16], device: torch.device) -> None:
        self._pixels, self._device = pixels, device

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`."""
        images = torch.from_numpy(self._pixels[rows].astype(np.float32)[:, None])
        return images.to(self._device, non_blocking=True)


class DeviceLoader:
    """Keeps the pixels on the device as 16-bit integers, so that nothing is copied while training."""

    def __init__(self, pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> None:
        self._positions = np.full(len(pixels), -1, np.int64)
        self._positions[rows] = np.arange(len(rows))
        # Signed, because PyTorch has few operations on uint16; the mask in `__call__` restores the values.
        self._store = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.int16, device=device)
        for start in range(0, len(rows), COPY_ROWS):
            block = np.ascontiguousarray(pixels[rows[start : start + COPY_ROWS]]).view(np.int16)
            self._store[start : start + COPY_ROWS] = torch.from_numpy(block).to(device)

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`, which must be among those that the loader was made with."""
        positions = self._positions[rows]
        assert (positions >= 0).all(), "rows that the loader was not made with"
        stored = self._store[torch.from_numpy(positions).to(self._store.device)]
        return (stored.to(torch.int32) & 0xFFFF).float()[:, None]
