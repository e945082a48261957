"""Decode the objects of a native file (.cif, .rif) into cells on the canvas of a model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO

from fatescope.data.cell_facts import CellFacts
from fatescope.data.images import Header
from fatescope.data.native.objects import NativeObject, Place
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.data.native.slices import Cursor
from fatescope.data.native.source import Source
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import MAX_PIXELS
from service.inference.decoded_cell import (
    DecodedCell,
    FailedCell,
    TooManyCells,
    build_cell,
    find_other_channels,
    no_object,
)
from service.inference.decoding_parts import Found
from service.inference.file_limits import check_pixels
from service.inference.page_decoder import PageDecoder


@dataclass(frozen=True)
class NativeDecoder:
    """Decodes native files for one model."""

    spec: Spec
    pages: PageDecoder
    """Decodes the images of objects."""

    def decode(
        self,
        file: IO[bytes],
        name: str,
        start: Place | None = None,
        *,
        objects: int | None = None,
        details: bool = False,
        max_cells: int | None = None,
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of a .cif or .rif, one per object: from `start` on if given, and `objects` of them if given.

        Raises TooManyCells for over `max_cells`.
        """
        empty = True
        try:
            native, channels = self.open(file, name)
            if max_cells is not None and (native.acquisition.objects or 0) > max_cells:
                raise TooManyCells
            found = _find(native, islice(native.places(start), objects), channels, max_cells)
            for cell in self.cells(native, found, channels, details=details):
                empty = False
                yield cell
            if empty and start is None:
                yield no_object(name)
        except ImageError as error:
            yield FailedCell(name, None, None, error)

    def open(self, file: IO[bytes] | Source, name: str) -> tuple[NativeFile, tuple[int, ...]]:
        """Return a .cif or .rif with the channels that the model gets of each object; raises ImageError."""
        native = NativeFile(file, name)
        return native, native.choose_channels(self.spec.inputs, self.spec.kinds)

    def cells(
        self, native: NativeFile, found: Iterator[Found], channels: tuple[int, ...], *, details: bool
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of objects that were found, whose `channels` are those of `open`."""
        for place, cell in self.pages.decode_objects(found):
            if isinstance(cell, ImageError):
                yield FailedCell(native.name, None, place.object, cell)
            else:
                decoded = self._cell(native, cell, channels, details=details)
                if details and isinstance(decoded, DecodedCell):
                    at = str(Cursor(place, answered=False))
                    decoded = replace(decoded, details={**decoded.details, "place": at})
                yield decoded

    def _cell(
        self, native: NativeFile, found: NativeObject, channels: tuple[int, ...], *, details: bool
    ) -> DecodedCell | FailedCell:
        header = Header("CIF", found.facts.height, found.facts.width, 1, BIT_DEPTH)
        pixels = found.images if len(self.spec.kinds) > 1 else found.images[0]
        facts = CellFacts.of_object(native.acquisition, channels, found.facts)
        cell = build_cell(
            (header, pixels), self.spec, native.name, None, found.facts.object, details=details, facts=facts
        )
        if isinstance(cell, DecodedCell) and (unusual := find_other_channels(channels, self.spec)):
            return replace(cell, warnings=cell.warnings + unusual)
        return cell


def _find(
    native: NativeFile, places: Iterator[Place], channels: tuple[int, ...], max_cells: int | None
) -> Iterator[Found]:
    """Yield the objects at the `places`; raises TooManyCells for more than `max_cells`, and ImageError."""
    for count, place in enumerate(places, 1):
        if max_cells is not None and count > max_cells:
            raise TooManyCells
        yield place, native.find(place, channels, MAX_PIXELS)
        check_pixels(native)
