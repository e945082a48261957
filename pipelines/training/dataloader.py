"""The pixels of a split as unsigned integers, on the device that trains where they fit, else in the memory map."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]
SHARE = 0.5
"""The share of a GPU's free memory that pixels may take; the network and its gradients need the rest."""


class Gather(Protocol):
    """Returns raw pixels (B, 1, H, W), float32 on the device, of rows in ascending or any order."""

    def __call__(self, rows: Indices) -> Tensor:
        """Gather `rows`."""


def gatherer(pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> Gather:
    """Return what gathers from `rows` of (N, H, W) `pixels`, which may be a memory map, on to `device`."""
    size = len(rows) * pixels[0].nbytes
    if device.type == "cuda" and size < SHARE * torch.cuda.mem_get_info(device)[0]:
        return Resident(pixels, rows, device)
    return Mapped(pixels, device)


class Mapped:
    """Gathers from memory that the system pages in and out: a memory map is never read whole."""

    def __init__(self, pixels: npt.NDArray[np.uint16], device: torch.device) -> None:
        self._pixels, self._device = pixels, device

    def __call__(self, rows: Indices) -> Tensor:
        """Gather `rows`."""
        images = torch.from_numpy(self._pixels[rows].astype(np.float32)[:, None])
        return images.to(self._device, non_blocking=True)


class Resident:
    """Holds the pixels on the device as 16-bit integers and gathers there: nothing is copied while training."""

    def __init__(self, pixels: npt.NDArray[np.uint16], rows: Indices, device: torch.device) -> None:
        self._places = np.full(len(pixels), -1, np.int64)
        self._places[rows] = np.arange(len(rows))
        # Signed, because PyTorch has few operations on uint16; the mask undoes it.
        self._store = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.int16, device=device)
        for start in range(0, len(rows), 4096):
            block = np.ascontiguousarray(pixels[rows[start : start + 4096]]).view(np.int16)
            self._store[start : start + 4096] = torch.from_numpy(block).to(device)

    def __call__(self, rows: Indices) -> Tensor:
        """Gather `rows`, all of which the store must hold."""
        places = self._places[rows]
        assert (places >= 0).all(), "rows that were not given when the store was made"
        found = self._store[torch.from_numpy(places).to(self._store.device)]
        return (found.to(torch.int32) & 0xFFFF).float()[:, None]
