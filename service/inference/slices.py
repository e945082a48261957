"""Decode the objects of a native file of which a request holds slices, and say which slices the next one needs."""

from collections.abc import Iterator

from fatescope.data.native.reader import NativeFile
from fatescope.data.native.slices import Cursor, MissingBytesError, SlicedSource, Span, merge, next_spans
from fatescope.errors import ImageError
from fatescope.inference.classification import MAX_PIXELS
from service.inference.decoded_cell import DecodedCell, FailedCell, no_object
from service.inference.decoding import CellDecoder
from service.inference.decoding_parts import Found
from service.inference.file_limits import MAX_FILE_PIXELS

MAX_CELLS = 1000
"""Cells that are answered at a time, so that answers follow each other and stay small."""


class SlicedFile:
    """A .cif or .rif of which a request holds slices."""

    def __init__(self, source: SlicedSource, name: str, cursor: Cursor | None = None) -> None:
        """`cursor` says how far the requests before have come; `name` is for messages."""
        self._source, self._name, self._before = source, name, cursor
        self.cursor = cursor
        """How far `decode` has come."""
        self._ended = False
        self.objects: int | None = None
        """How many objects the file announces; None where it does not, or its header was not at hand."""
        self.wanted: list[Span] = []
        """Which bytes of the file the next request needs; none at its end, or where it breaks off."""

    def decode(self, decoder: CellDecoder, *, details: bool, max_cells: int) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells that come next and are at hand, at most `max_cells`; afterwards `wanted` is set."""
        header: list[Span] = []
        missing = None
        try:
            native, channels = decoder.native.open(self._source, self._name)
            header, self.objects = merge(self._source.used, self._source.size), native.acquisition.objects
            found = self._find(native, channels, max_cells)
            yield from decoder.native.cells(native, found, channels, details=details)
            if self._ended:
                if self.cursor is None:
                    yield no_object(self._name)
                return
        except MissingBytesError as error:
            missing = error
        except ImageError as error:
            yield FailedCell(self._name, None, None, error)
            return
        self.wanted = next_spans(self._source, header, self._before, self.cursor, missing)

    def _find(self, native: NativeFile, channels: tuple[int, ...], max_cells: int) -> Iterator[Found]:
        """Yield the objects that come next and are at hand; raises MissingBytesError before one that is not."""
        count = 0
        for place in native.places(self._before.place if self._before else None):
            if self._before and self._before.answered and place.index == self._before.place.index:
                continue
            self._reach(Cursor(place, answered=False))
            if count >= max_cells or native.pixels > MAX_FILE_PIXELS:
                return
            stored = native.find(place, channels, MAX_PIXELS)
            self._reach(Cursor(place, answered=True))
            count += 1
            yield place, stored
        self._ended = True

    def _reach(self, cursor: Cursor) -> None:
        self.cursor = cursor
        if cursor != self._before:
            # What is missing from here on can be asked for.
            self._source.gives_up = False
