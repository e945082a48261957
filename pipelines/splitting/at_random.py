"""Draw the side of each cell from a hash of its pixels, or of its track where it has several images over time."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from fatescope.config import Split
from fatescope.data.splits import SPLITS
from fatescope.data.tracks import Tracks
from fatescope.errors import SplitError
from pipelines.splitting.sides import TEST, TRAIN, VALIDATION, Floats, Sides, count, shares

Hashes = npt.NDArray[np.int64]


def draw_sides(
    codes: npt.NDArray[np.signedinteger], names: list[str], read: Callable[[], Iterator[Hashes]], params: Split
) -> Sides:
    """Return the side of each cell under the random scheme; -1 for cells that have no class and so no place.

    `codes` (N,) are the places of their classes in `names`, and `read` yields the hashes of their pixels, in order and
    a part at a time. Every class gets a cell in every split, also where the shares alone would give it none. Raises
    SplitError where a class has fewer cells than there are splits.
    """
    counts = count(codes, len(names))
    if rare := {name: int(n) for name, n in zip(names, counts, strict=True) if 0 < n < len(SPLITS)}:
        raise SplitError(
            f"too few cells to split: {rare}; each class needs {len(SPLITS)}, so add cells or leave the class out"
        )
    _, validation, test = shares(params.test_share, params.validation_share)
    limits, below = (test, test + validation), np.zeros((2, len(names)), np.int64)
    sides, start = np.full(len(codes), -1, np.int8), 0
    for hashes in read():
        place, part = _uniform(hashes, params.seed), slice(start, start + len(hashes))
        for row, side in ((1, VALIDATION), (0, TEST)):
            chosen = place < limits[row]
            below[row] += count(codes[part][chosen], len(names))
            sides[part][chosen] = side
        sides[part][place >= limits[1]] = TRAIN
        start += len(hashes)
    sides[codes < 0] = -1
    for code in np.flatnonzero(counts):
        for_test = int(np.clip(below[0, code], 1, counts[code] - 2))
        end = int(np.clip(below[1, code], for_test + 1, counts[code] - 1))
        if [for_test, end] != below[:, code].tolist():
            rows = np.flatnonzero(codes == code)
            place = np.concatenate([_uniform(hashes, params.seed) for hashes in read()])[rows]
            rows = rows[np.argsort(place, kind="stable")]
            sides[rows[:for_test]], sides[rows[for_test:end]], sides[rows[end:]] = TEST, VALIDATION, TRAIN
    return sides


def draw_tracks(codes: npt.NDArray[np.signedinteger], names: list[str], of_cells: Tracks, params: Split) -> Sides:
    """Return the same as `draw_sides` with all images of a cell on one side.

    Shares count cells, not images. Raises SplitError where images of one cell have different classes.
    """
    drawn = np.flatnonzero(codes >= 0)
    keys, first, unit = np.unique(of_cells.keys[drawn], return_index=True, return_inverse=True)
    of_unit = codes[drawn][first]
    if len(other := drawn[codes[drawn] != of_unit[unit]]):
        two = sorted({names[codes[other[0]]], names[of_unit[unit[drawn == other[0]][0]]]})
        raise SplitError(
            f"images of one cell are of {' and '.join(two)}; dataset.track must name what is one cell of one class "
            "within its acquisition group"
        )
    sides = np.full(len(codes), -1, np.int8)
    sides[drawn] = draw_sides(of_unit, names, lambda: iter([keys]), params)[unit]
    return sides


def _uniform(hashes: npt.NDArray[np.int64], seed: int) -> Floats:
    """Return (N,) numbers from 0 to 1 that hashes and the seed decide (SplitMix64, Steele et al. 2014)."""
    [key] = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    x = hashes.astype(np.uint64) + key  # unsigned arithmetic wraps, as the method wants
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Floats = (x ^ (x >> np.uint64(31))) / 2.0**64
    return uniform
