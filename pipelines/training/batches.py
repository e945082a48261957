"""Batches of cells on a device, and what loads them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

Indices = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Cells on the device."""

    rows: Indices
    pixels: Tensor
    """(B, C, H, W) raw pixels, float32."""


class Loader(Protocol):
    """Loads raw pixels (B, C, H, W), float32 on the device."""

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`."""

    def load_batches(self, batches: Iterable[Indices]) -> Iterator[Batch]:
        """Yield the rows of each of `batches` with their pixels, in their order."""
