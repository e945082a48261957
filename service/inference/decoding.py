"""Decode files into cells on the canvas of a model, or report why a file cannot be used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import IO

from fatescope.config import Dataset
from fatescope.data import images, names, paths
from fatescope.data.cell_facts import CellFacts
from fatescope.data.images import Header
from fatescope.data.native.names import is_native
from fatescope.data.native.objects import NativeObject, Place
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.data.native.slices import Cursor
from fatescope.data.native.source import Source
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import MAX_PIXELS, wrong_bit_depth
from service.inference.decoded_cell import (
    DecodedCell,
    FailedCell,
    TooManyCells,
    describe,
    find_other_channels,
    find_unusual,
    no_object,
)
from service.inference.decoding_parts import Found
from service.inference.files import RejectedFile, Upload
from service.inference.page_decoder import PageDecoder, read_headers

MAX_FILE_PIXELS = 100_000_000
"""Largest number of pixels of all pages of a file together: thousands of pages can share the same few bytes."""

_PIXELS_PER_BYTE = 2
"""Of all channels of a native file, at most: a file with more uses the same bytes for several objects."""


class CellDecoder:
    """Decodes files for one model."""

    def __init__(self, spec: Spec, pages: PageDecoder | None = None) -> None:
        """`pages` decodes the pages of files; without it, this process does."""
        self._spec = spec
        self.pages = pages or PageDecoder()
        self.parser = paths.PathParser(Dataset.read(spec.params["dataset"]))
        """Reads the names of files as those of the training data."""

    def decode(
        self, file: Upload | RejectedFile, *, details: bool = False, max_cells: int | None = None
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of `file`, one per page or object; raises TooManyCells for over `max_cells`.

        That is before the first one, unless a native file has more objects than it announces.
        """
        if max_cells == 0:
            raise TooManyCells
        if isinstance(file, Upload) and file.file is not None:
            yield from self.decode_native(file.file, file.name, details=details, max_cells=max_cells)
            return
        number = self.parser.read_name(file.name).object
        if isinstance(file, RejectedFile):
            yield FailedCell(file.name, None, number, file.error)
            return
        try:
            headers = read_headers(file)
            if max_cells is not None and len(headers) > max_cells:
                raise TooManyCells
            _check_size(headers, file.name)
            for index, page in enumerate(self.pages.decode(file, headers)):
                yield self._cell(page, file.name, index if len(headers) > 1 else None, number, details=details)
        except ImageError as error:
            if max_cells is not None and error.code == "too_many_pages":
                raise TooManyCells from error
            yield FailedCell(file.name, None, number, error)

    def decode_native(
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
            native, channels = self.open_native(file, name)
            if max_cells is not None and (native.acquisition.objects or 0) > max_cells:
                raise TooManyCells
            found = _find(native, islice(native.places(start), objects), channels, max_cells)
            for cell in self.native_cells(native, found, channels, details=details):
                empty = False
                yield cell
            if empty and start is None:
                yield no_object(name)
        except ImageError as error:
            yield FailedCell(name, None, None, error)

    def open_native(self, file: IO[bytes] | Source, name: str) -> tuple[NativeFile, tuple[int, ...]]:
        """Return a .cif or .rif with the channels that the model gets of each object; raises ImageError."""
        native = NativeFile(file, name)
        return native, native.choose_channels(self._spec.inputs, self._spec.kinds)

    def native_cells(
        self, native: NativeFile, found: Iterator[Found], channels: tuple[int, ...], *, details: bool
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of objects that were found, whose `channels` are those of `open_native`."""
        for place, cell in self.pages.decode_objects(found):
            if isinstance(cell, ImageError):
                yield FailedCell(native.name, None, place.object, cell)
            else:
                decoded = self._native_cell(native, cell, channels, details=details)
                if details and isinstance(decoded, DecodedCell):
                    at = str(Cursor(place, answered=False))
                    decoded = replace(decoded, details={**decoded.details, "place": at})
                yield decoded

    def _native_cell(
        self, native: NativeFile, found: NativeObject, channels: tuple[int, ...], *, details: bool
    ) -> DecodedCell | FailedCell:
        header = Header("CIF", found.facts.height, found.facts.width, 1, BIT_DEPTH)
        pixels = found.images if self.several else found.images[0]
        facts = CellFacts.of_object(native.acquisition, channels, found.facts)
        cell = self._cell((header, pixels), native.name, None, found.facts.object, details=details, facts=facts)
        if isinstance(cell, DecodedCell) and (unusual := find_other_channels(channels, self._spec)):
            return replace(cell, warnings=cell.warnings + unusual)
        return cell

    @property
    def several(self) -> bool:
        """Return whether the model takes several channels of a cell."""
        return len(self._spec.kinds) > 1

    def decode_object(
        self, files: Sequence[Upload | RejectedFile], *, details: bool = False, max_cells: int | None = None
    ) -> Iterator[DecodedCell | FailedCell]:
        """Yield the cells of the `files` of one object: of one, or of one for each channel of the model, in any order.

        A native file has all channels. Raises TooManyCells as `decode` does.
        """
        first = files[0]
        if not self.several or (isinstance(first, Upload) and first.file is not None):
            for file in files:
                yield from self.decode(file, details=details, max_cells=max_cells)
            return
        if max_cells == 0:
            raise TooManyCells
        number = self.parser.read_name(first.name).object
        try:
            ordered = self.in_order(files)
            name, channels = ordered[0].name, [self._decode_channel(file, max_cells) for file in ordered]
            if len({len(pages) for pages in channels}) > 1:
                _raise_differing_pages(channels, self._spec, name)
            for index, pages in enumerate(zip(*channels, strict=True)):
                page = _join(pages, self._spec, name)
                yield self._cell(page, name, index if len(channels[0]) > 1 else None, number, details=details)
        except ImageError as error:
            yield FailedCell(first.name, None, number, error)

    def in_order(self, files: Sequence[Upload | RejectedFile]) -> list[Upload]:
        """Return the files of an object in the order of the channels; raises ImageError where they are not one each."""
        if not self.several and len(files) > 1:
            raise ImageError(
                "channels", f"{files[1].name}: a second image, but the model takes one of a cell; send one"
            )
        placed: dict[int, Upload] = {}
        for file in files:
            if isinstance(file, RejectedFile):
                raise file.error
            place = self._place(file.name) if self.several else 0
            if place in placed:
                raise ImageError(
                    "channels", f"{file.name}: is the same channel of the same object as {placed[place].name}; send one"
                )
            placed[place] = file
        if lost := [name for place, name in enumerate(self._spec.inputs) if place not in placed]:
            raise self._missing(files[0].name, f"channel {lost[0]} of this object is missing")
        return [placed[place] for place in range(len(self._spec.kinds))]

    def _place(self, name: str) -> int:
        channel = self.parser.read_name(name).channel
        place = None if channel is None else self.parser.channel_index(channel)
        if place is None:
            raise self._missing(name, "its name says none of its channels")
        return place

    def _missing(self, name: str, reason: str) -> ImageError:
        wanted = " and ".join(f"{channel} ({kind})" for channel, kind in self._spec.channels.items())
        return ImageError("missing_channel", f"{name}: {reason}; the model takes channels {wanted} of each cell")

    def _decode_channel(self, file: Upload, max_cells: int | None) -> list[tuple[Header, images.Pixels] | ImageError]:
        try:
            headers = read_headers(file)
        except ImageError as error:
            if max_cells is not None and error.code == "too_many_pages":
                raise TooManyCells from error
            raise
        if max_cells is not None and len(headers) > max_cells:
            raise TooManyCells
        _check_size(headers, file.name)
        return list(self.pages.decode(file, headers))

    def decode_at_once(self, *files: Upload) -> DecodedCell | None:
        """Return what `decode_one` does of files that need no other process, None of others."""
        read = [replace(file, headers=read_headers(file)) for file in files]
        return self.decode_one(*read) if all(self.pages.is_quick(file) for file in read) else None

    def decode_one(self, *files: Upload, page: int | None = None) -> DecodedCell:
        """Return the cell of a file with a single page, or of one for each channel of the model; raises ImageError.

        With `page`, from 0, the files may have several.
        """
        pages = [self._decode_page(file, place, page) for place, file in enumerate(files)]
        number, name = self.parser.read_name(files[0].name).object, files[0].name
        cell = self._cell(_join(pages, self._spec, name), name, None, number, details=False)
        if isinstance(cell, FailedCell):
            raise cell.error
        return cell

    def _decode_page(self, file: Upload, place: int, page: int | None) -> tuple[Header, images.Pixels] | ImageError:
        """Return the page of a file that is of the channel at `place`; raises ImageError where there is none."""
        channel, expected = self.parser.read_name(file.name).channel, (*self._spec.inputs, None)[place]
        if channel is not None and expected is not None and not names.same_channel(channel, expected):
            raise ImageError(
                "other_channel",
                f"{file.name}: channel {channel}, but the model was trained on channel {expected}; send that channel",
            )
        headers = read_headers(file)
        if page is not None:
            if page >= len(headers):
                raise ImageError("pages", f"{file.name}: no page {page}; it has {len(headers):,}, counted from 0")
            [only] = self.pages.decode(replace(file, headers=None), [headers[page]])
            return only
        if len(headers) != 1:
            raise ImageError(
                "pages",
                f"{file.name}: {len(headers)} pages where 1 was expected; send many cells to /classify_batch",
            )
        [only] = self.pages.decode(file, headers)
        return only

    def is_other_channel(self, name: str) -> bool:
        """Return whether the name of a file says that it is of another channel than the model's.

        A native file has all channels.
        """
        return not is_native(name) and self._is_other(self.parser.read_name(name).channel)

    def _is_other(self, channel: str | None) -> bool:
        wanted = self._spec.inputs
        return channel is not None and bool(wanted) and not any(names.same_channel(channel, one) for one in wanted)

    def _cell(
        self,
        page: tuple[Header, images.Pixels] | ImageError,
        name: str,
        index: int | None,
        number: int | None,
        *,
        details: bool,
        facts: CellFacts | None = None,
    ) -> DecodedCell | FailedCell:
        """Return the cell of a page, whose `facts` its header says where they are not given."""
        if isinstance(page, ImageError):
            return FailedCell(name, index, number, page)
        header, pixels = page
        if header.bit_depth not in self._spec.bit_depths:
            return FailedCell(name, index, number, wrong_bit_depth(header, self._spec, name))
        return DecodedCell(
            file=name,
            page=index,
            object=number,
            pixels=images.center(images.cut(pixels, self._spec.canvas), self._spec.canvas, name),
            native=pixels,
            bit_depth=header.bit_depth,
            size=(header.height, header.width),
            warnings=find_unusual(header, self._spec),
            details=describe(header, pixels, self._spec) if details else {},
            facts=facts or (CellFacts.of_export(header.facts) if header.facts else None),
        )


def _find(
    native: NativeFile, places: Iterator[Place], channels: tuple[int, ...], max_cells: int | None
) -> Iterator[Found]:
    """Yield the objects at the `places`; raises TooManyCells for more than `max_cells`, and ImageError."""
    for count, place in enumerate(places, 1):
        if max_cells is not None and count > max_cells:
            raise TooManyCells
        yield place, native.find(place, channels, MAX_PIXELS)
        _check_pixels(native)


def _check_size(headers: list[Header], name: str) -> None:
    announced = sum(header.height * header.width for header in headers)
    if announced > MAX_FILE_PIXELS:
        raise ImageError(
            "too_large",
            f"{name}: its {len(headers):,} pages announce {announced:,} px, but a file may have {MAX_FILE_PIXELS:,}; "
            "export fewer cells per file",
        )


def _check_pixels(native: NativeFile) -> None:
    most = max(MAX_FILE_PIXELS, _PIXELS_PER_BYTE * native.size)
    if native.pixels > most:
        raise ImageError(
            "too_large",
            f"{native.name}: the objects so far have {native.pixels:,} px in all channels, but a file of its size may "
            f"have {most:,}; copy or save it again",
        )


def _join(
    pages: Sequence[tuple[Header, images.Pixels] | ImageError], spec: Spec, name: str
) -> tuple[Header, images.Pixels] | ImageError:
    """Return the page of a cell with all of its channels, or why there is none."""
    decoded = []
    for page in pages:
        if isinstance(page, ImageError):
            return page
        decoded.append([page])
    try:
        return images.join_pages(decoded, spec.inputs, name)[0]
    except ImageError as error:
        return error


def _raise_differing_pages(
    channels: list[list[tuple[Header, images.Pixels] | ImageError]], spec: Spec, name: str
) -> None:
    counts = ", ".join(f"{len(pages)} of channel {one}" for one, pages in zip(spec.inputs, channels, strict=True))
    raise ImageError("channels_differ", f"{name}: the pages are {counts}; export as many of each channel")
