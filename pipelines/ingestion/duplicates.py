"""Cells with the same pixels as an earlier cell."""

from array import array

import numpy as np
import numpy.typing as npt


def find_duplicates(hashes: "array[int]") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of cells whose pixels came before, and for each the row of the first cell with these pixels.

    Memory is a few times that of the (N,) 64-bit `hashes`.
    """
    seen = np.frombuffer(hashes, np.int64)
    ordered = np.sort(seen)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered  # eight bytes a cell, as each array here
    if not len(repeated):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    place = np.searchsorted(repeated[:-1], seen)
    rows = np.flatnonzero(repeated[place] == seen)
    del place
    _, first, inverse = np.unique(seen[rows], return_index=True, return_inverse=True)
    later = np.flatnonzero(first[inverse] != np.arange(len(rows)))
    return rows[later], rows[first[inverse[later]]]
