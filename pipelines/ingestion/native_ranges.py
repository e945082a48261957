"""Ranges of the objects of a native file, by which processes read it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.data.native.objects import Place
from fatescope.data.native.reader import NativeFile
from fatescope.errors import ImageError
from pipelines.ingestion.native_cells import NOT_A_CELL, Codes, NativeCells

_WALK_WINDOW = 512
"""Bytes to read of an object where only its place is wanted."""


@dataclass(frozen=True)
class ObjectRange:
    """Objects of a native file that follow each other."""

    cells: NativeCells
    offsets: npt.NDArray[np.int64]
    """(n,) where each of them is, bytes from the start of the file; empty for objects that cannot be found."""
    numbers: npt.NDArray[np.int64]
    """(n,) of each of them in the file; empty likewise."""
    codes: Codes
    """(n,) of each of them; NOT_A_CELL for those that are not read."""
    problem: str = ""
    """Why they cannot be found."""

    @property
    def wanted(self) -> int:
        """Return how many of them are read."""
        return int((self.codes != NOT_A_CELL).sum())


def cells_of(cells: NativeCells, folder: Path) -> Codes:
    """Return the codes of those objects of a file that are cells, in the order of the file.

    Where the path says the class, objects that cannot be found count too: they are refused when they are read.
    """
    if not cells.tagged:
        return np.zeros(cells.objects, np.int16)
    codes = [part.codes for part in ranges(cells, folder, 1 << 12) if not part.problem]
    every = np.concatenate(codes) if codes else np.empty(0, np.int16)
    known: Codes = every[every != NOT_A_CELL]
    return known


def ranges(cells: NativeCells, folder: Path, size: int) -> Iterator[ObjectRange]:
    """Yield the objects of a file in ranges of `size`, the last of which may be lost ones.

    A file that breaks off in between costs those behind the break.
    """
    plain, found, nothing = replace(cells, tagged=()), 0, np.empty(0, np.int64)
    try:
        with (folder / cells.path).open("rb", buffering=0) as raw:
            places = NativeFile(raw, cells.path, _WALK_WINDOW).places()
            while part := _take(places, min(size, cells.objects - found)):
                places_found, error = part
                found += len(places_found)
                if places_found:
                    numbers = np.array([place.object for place in places_found], np.int64)
                    offsets = np.array([place.offset for place in places_found], np.int64)
                    yield ObjectRange(plain, offsets, numbers, cells.codes(numbers))
                if error:
                    raise error
            if found == cells.objects:
                _check_end(places, cells)
    except (ImageError, OSError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"{cells.path}: cannot be read: {error.strerror}"
        code = NOT_A_CELL if cells.tagged else 0
        yield ObjectRange(plain, nothing, nothing, np.full(cells.objects - found, code, np.int16), reason)


def _check_end(places: Iterator[Place], cells: NativeCells) -> None:
    if next(places, None):
        announced = plural.count(cells.objects, "object")
        raise ImageError("truncated", f"{cells.path}: holds more than the {announced} that it announces")


def _take(places: Iterator[Place], count: int) -> tuple[list[Place], ImageError | None] | None:
    """Return up to `count` places, and why there are no more; None after the last."""
    taken = list[Place]()
    try:
        # It keeps those before an error.
        taken.extend(islice(places, count))
    except ImageError as error:
        return taken, error
    return (taken, None) if taken else None


def wanted_ranges(cells: NativeCells, folder: Path, size: int, kept: npt.NDArray[np.bool_]) -> Iterator[ObjectRange]:
    """Yield the `ranges` of a file in which objects are to be read; `kept` has those of `cells_of` that are."""
    at = 0
    for part in ranges(cells, folder, size):
        codes, counted = part.codes.copy(), part.codes != NOT_A_CELL
        codes[counted] = np.where(kept[at : at + counted.sum()], codes[counted], NOT_A_CELL)
        at += int(counted.sum())
        if part.problem or (codes != NOT_A_CELL).any():
            yield replace(part, codes=codes)
