"""The sides on which cells and groups may be: places in SPLITS, and the shares that each is to have."""

import numpy as np
import numpy.typing as npt

from fatescope.data.splits import SPLITS

Sides = npt.NDArray[np.int8]
"""(N,) the split of each cell as its place in SPLITS, -1 for a cell that has no place under a scheme."""
TRAIN, VALIDATION, TEST = range(len(SPLITS))
Texts = npt.NDArray[np.str_]
Floats = npt.NDArray[np.floating]


def shares(test: float, validation: float) -> Floats:
    """Return the (3,) shares of SPLITS; that of validation is one of what the test leaves."""
    return np.array([(1 - test) * (1 - validation), (1 - test) * validation, test])


def count(codes: npt.NDArray[np.signedinteger], size: int) -> npt.NDArray[np.int64]:
    """Return how many of `codes` are each number from 0 to `size` - 1."""
    counts: npt.NDArray[np.int64] = np.bincount(codes[codes >= 0], minlength=size)
    return counts
