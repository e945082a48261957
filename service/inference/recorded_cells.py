"""What the prediction log keeps of the images of cells: a hash of each, and its features.

Both are many short steps of libraries in C, after each of which a thread asks for the interpreter again. While it
waits for it, all that the event loop does takes longer, so that the log leaves this to the processes that decode files.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fatescope.data import features
from fatescope.data.crops import Pixels, pixel_hash

Described = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Of n cells the (n,) hashes of `crops.pixel_hash`, and the (n, F) features of `features.acquisition`."""
Cells = tuple[list[Pixels], list[int]]
"""Crops as they were sent, (H, W) or (C, H, W), and the bit depth of each."""

MAX_CELLS, MAX_BYTES = 256, 4_000_000
"""Cells, and bytes of theirs, that are described at a time."""


def describe(crops: Sequence[Pixels], bit_depths: Sequence[int]) -> Described:
    """Return what is kept of one or more cells; the features of all crops of one size are computed together."""
    channels = len(crops[0]) if crops[0].ndim == 3 else 1
    values = np.zeros((len(crops), channels * len(features.ACQUISITION)), np.float32)
    alike = defaultdict(list)
    for i, (crop, bit_depth) in enumerate(zip(crops, bit_depths, strict=True)):
        alike[crop.shape, bit_depth].append(i)
    for (_, bit_depth), indices in alike.items():
        values[indices] = features.acquisition(np.stack([crops[i] for i in indices]), bit_depth)
    return np.array([pixel_hash(crop) for crop in crops], np.int64), values


def parts(crops: Sequence[Pixels], bit_depths: Sequence[int]) -> Iterator[Cells]:
    """Yield the cells in parts that are described at a time."""
    start, size = 0, 0
    for end, crop in enumerate(crops):
        if end - start == MAX_CELLS or (end > start and size + crop.nbytes > MAX_BYTES):
            yield list(crops[start:end]), list(bit_depths[start:end])
            start, size = end, 0
        size += crop.nbytes
    yield list(crops[start:]), list(bit_depths[start:])
