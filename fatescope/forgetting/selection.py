"""What is sought, and what of it a place has."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fatescope.data.names import normalise
from fatescope.errors import DataError

GroupOf = Callable[[str], str | None]
"""Returns the acquisition group that the path of an image says."""


@dataclass(frozen=True)
class Selection:
    """What is to go."""

    samples: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    """Patterns as in a shell, of relative paths with `/`, or of the end of them."""
    hashes: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    """Cells in tables that were found by one of the others."""
    pixels: frozenset[str] = frozenset()
    """Hashes of their pixels, as text."""
    answers: frozenset[str] = frozenset()
    """Ids that their cells have in answers."""

    def has_answer(self, cell: str) -> bool:
        """Return whether a cell is selected by its id, which begins with the number of its request."""
        return bool(cell) and (cell in self.answers or cell.rpartition("-")[0] in self.requests)

    def has_path(self, path: str) -> bool:
        """Return whether a path, or a cell that is named after it, is selected."""
        path = normalise(path.partition("#")[0])
        parts = path.split("/")
        return not self.samples.isdisjoint(parts[:-1]) or any(
            fnmatchcase("/".join(parts[start:]), pattern) for pattern in self.paths for start in range(len(parts))
        )

    def is_empty(self) -> bool:
        """Return whether it selects nothing."""
        return not (self.samples or self.requests or self.paths or self.hashes)

    def counts(self) -> dict[str, int]:
        """Return how many of each kind: nothing that tells of whom."""
        return {name: len(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class Found:
    """What is selected in a place."""

    place: str
    items: int
    """Rows, corrections and files of images that there are in the place."""
    selected: int
    hashes: frozenset[str]
    """Of the images that are selected."""
    cells: frozenset[str]
    """Their names in tables."""
    pixels: frozenset[str]
    """Hashes of their pixels."""
    answers: frozenset[str]
    """Ids of their cells in answers."""
    examples: tuple[str, ...]
    """Where they are, some of them."""
    digest: str
    """SHA-256 of the place: of the names and the content of its files."""


def check(selection: Selection) -> None:
    """Raise DataError where a selection is empty, or would select all there is."""
    if selection.is_empty():
        raise DataError("forget: say what, with --sample, --request, --path, --sha256 or --image")
    if any(not value.strip() for values in vars(selection).values() for value in values):
        # As of a variable of the shell that is not set: it would be all cells without a group.
        raise DataError("forget: an option is empty; give it what it is to delete, or leave it out")
    for pattern in selection.paths:
        if not set(pattern) - set("*?/."):
            raise DataError(f"forget: the pattern '{pattern}' is of every file; give one that is of the sample alone")
    for digest in selection.hashes:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise DataError(f"forget: '{digest}' is not a SHA-256 in hexadecimal; or give the image with --image")
