"""Connected parts of masks, many images at a time. NumPy only, because the library needs no SciPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Masks = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """The connected parts of (B, H, W) masks: pixels that touch at a side."""

    masks: Masks
    lengths: Indices
    """(R,) Pixels of each run of pixels in a row, in the order in which `masks` has them."""
    of_run: Indices
    """(R,) The component of each run, from 0 in the order of their first pixels."""
    of_image: Indices
    """(K,) The image of each component, ascending."""

    @property
    def sizes(self) -> Indices:
        """Return the (K,) sizes of the components, px."""
        sizes = np.bincount(self.of_run, self.lengths, len(self.of_image))
        return sizes.astype(np.int64)

    def paint(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return (B, H, W) images in which each component has its value of (K,) `values`, and other pixels 0."""
        painted = np.zeros(self.masks.shape, values.dtype)
        painted[self.masks] = np.repeat(values[self.of_run], self.lengths)
        return painted


def find_components(masks: Masks) -> Components:
    """Return the connected parts of (B, H, W) masks."""
    count, height, width = masks.shape
    padded = np.zeros((count * height, width + 2), np.int8)
    padded[:, 1:-1] = masks.reshape(-1, width)
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    # Runs are in the order of their rows, and of their places in a row: so are these keys.
    stride = width + 1
    above = np.where(rows % height, rows - 1, -1)
    first = np.searchsorted(rows * stride + ends, above * stride + starts, "right")
    past = np.searchsorted(rows * stride + starts, above * stride + ends, "left")
    touching = np.where(above >= 0, np.maximum(past - first, 0), 0)
    lower = np.repeat(np.arange(len(rows)), touching)
    offsets = np.arange(len(lower)) - np.repeat(np.cumsum(touching) - touching, touching)
    roots = _join(len(rows), lower, np.repeat(first, touching) + offsets)
    first_runs, of_run = np.unique(roots, return_inverse=True)
    return Components(masks, ends - starts, of_run, rows[first_runs] // height)


def _join(count: int, one: Indices, other: Indices) -> Indices:
    """Return, for each of `count` things, the first that it is joined to by the pairs (`one`, `other`)."""
    roots = np.arange(count)
    while len(one):
        a, b = roots[one], roots[other]
        apart = a != b
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(roots, jumped := roots[roots]):
            roots = jumped
    return roots
