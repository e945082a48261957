"""Pieces of native files in the listing of a batch job: a file of a million objects is many parts of work.

A piece is listed as `PATH#INDEX+OBJECTS@OFFSET`: how many objects come before it, how many it has at most, and where
the directory of the first one is. The last piece of a file has 0 objects, which means all that are left.

Where the model takes several channels, the files of an object are one entry, their paths separated by the one character
that no path has.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fatescope.data import instruments
from fatescope.data.native.objects import Place
from fatescope.data.native.reader import NativeFile
from fatescope.errors import ImageError

_PIECE = re.compile(
    r"(?P<path>.+\.(?:cif|rif))#(?P<index>\d{1,12})\+(?P<objects>\d{1,9})@(?P<offset>\d{1,15})",
    re.IGNORECASE | re.DOTALL,
)
_BETWEEN = "\0"
_WINDOW = 512
"""Bytes to read of an object where only its place is wanted."""


@dataclass(frozen=True)
class Piece:
    """Some objects of a native file that follow each other."""

    path: str
    index: int
    """Objects before it."""
    objects: int
    """0 for all that are left."""
    offset: int
    """Where the directory of its first object is, bytes."""

    def __str__(self) -> str:
        return f"{self.path}#{self.index}+{self.objects}@{self.offset}"

    @property
    def start(self) -> Place:
        """Return where it begins; the number of the first object is read there."""
        return Place(self.index, self.index, self.offset)


def parse(listed: str) -> Piece | None:
    """Return the piece that an entry of a listing stands for, None for a whole file."""
    match = _PIECE.fullmatch(listed)
    return Piece(match["path"], *(int(match[name]) for name in ("index", "objects", "offset"))) if match else None


def join(paths: Iterable[str]) -> str:
    """Return the entry of a listing for the files of one object."""
    return _BETWEEN.join(paths)


def files_of(listed: str) -> list[str]:
    """Return the files of an entry of a listing: one, or those of the channels of an object."""
    piece = parse(listed)
    return [piece.path] if piece else listed.split(_BETWEEN)


def file_of(listed: str) -> str:
    """Return the file of an entry of a listing, by which its cells are called; of several, the first."""
    return files_of(listed)[0]


def cut(folder: Path, path: str, size: int) -> Iterator[Piece]:
    """Yield the pieces of `size` objects of a native file; none for a file that is none, or cannot be read at all."""
    try:
        with (folder / path).open("rb", buffering=0) as raw:
            if not instruments.is_native(path, raw.read(instruments.HEAD)):
                return
            before: Place | None = None
            for place in _until_break(NativeFile(raw, path, _WINDOW).starts(size)):
                if before is not None:
                    yield Piece(path, before.index, size, before.offset)
                before = place
            if before is not None:
                yield Piece(path, before.index, 0, before.offset)
    except (ImageError, OSError):
        return


def _until_break(places: Iterator[Place]) -> Iterator[Place]:
    """Yield places until there are no more, or they break off: who reads the last piece learns of that."""
    try:
        yield from places
    except ImageError:
        return
