"""Cells with the same pixels as an earlier cell."""

from array import array

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 16
"""Cells that are looked up at a time, so that what this takes does not grow with their number."""

Rows = npt.NDArray[np.signedinteger]


def find_duplicates(hashes: "array[int]") -> tuple[Rows, Rows]:
    """Return the rows of cells whose pixels came before, and for each the row of the first cell with these pixels.

    Memory is about that of the (N,) 64-bit `hashes` once more, and of the result.
    """
    seen = np.frombuffer(hashes, np.int64)
    kind: type[np.signedinteger] = np.int32 if len(seen) <= np.iinfo(np.int32).max else np.int64
    ordered = np.sort(seen)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered  # eight bytes a cell
    if not len(repeated):
        return np.empty(0, kind), np.empty(0, kind)
    first = np.full(len(repeated), -1, kind)
    later, earlier = list[Rows](), list[Rows]()
    for start in range(0, len(seen), CHUNK):
        values = seen[start : start + CHUNK]
        place = np.searchsorted(repeated[:-1], values)
        found = np.flatnonzero(repeated[place] == values)
        place, rows = place[found], (start + found).astype(kind)
        new = np.flatnonzero(first[place] < 0)[::-1]
        # Backwards, so that of several in one chunk the first one stays.
        first[place[new]] = rows[new]
        repeats = first[place] != rows
        later.append(rows[repeats])
        earlier.append(first[place[repeats]])
    return np.concatenate(later), np.concatenate(earlier)
