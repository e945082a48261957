"""The sizes of batches that a GPU is given.

Libraries for GPUs choose algorithms, plan memory and record graphs for a size when they first see it. A service meets
every number of cells; padded to a few sizes, which an engine runs once before it serves, none is new.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BUCKETS = (1, 8, 32, 64, 128, 256)
"""Sizes of batches, ascending; a larger number of cells is classified in parts of the last."""

Pixels = npt.NDArray[np.uint16]


def bucket(cells: int) -> int:
    """Return the smallest of BUCKETS that holds 1 to BUCKETS[-1] `cells`."""
    return next(size for size in BUCKETS if size >= cells)


def split(pixels: Pixels) -> Iterator[Pixels]:
    """Yield (B, ...) pixels in parts of up to BUCKETS[-1] cells."""
    for start in range(0, len(pixels), BUCKETS[-1]):
        yield pixels[start : start + BUCKETS[-1]]


def pad(pixels: Pixels) -> Pixels:
    """Return 1 to BUCKETS[-1] (B, ...) pixels, followed by copies of the last up to the size of their bucket.

    Copies of a cell rather than zeros: a network that divides by the contrast of a cell gives numbers for them.
    """
    missing = bucket(len(pixels)) - len(pixels)
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)]) if missing else pixels
