"""Decode files into cells on the canvas of a model, or report why a file cannot be used."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset
from fatescope.data import features, images, names, paths
from fatescope.data.images import Header
from fatescope.data.native.names import is_native
from fatescope.data.native.objects import NativeObject, Place
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from fatescope.inference.classification import MAX_PIXELS, wrong_bit_depth
from service.inference import thumbnails
from service.inference.files import RejectedFile, Upload
from service.inference.results import DetailsDict, WarningDict

MAX_FILE_PIXELS = 100_000_000
"""Largest number of pixels of all pages of a file together: thousands of pages can share the same few bytes."""

_PIXELS_PER_BYTE = 2
"""Of all channels of a native file, at most: a file with more uses the same bytes for several objects."""


@dataclass(frozen=True)
class DecodedCell:
    """A cell that the model can classify."""

    file: str
    page: int | None
    """Page of a file with several, from 0."""
    object: int | None
    """The instrument's number for the cell, if the file name or a native file has one."""
    pixels: npt.NDArray[np.uint16]
    """(H, W) on the canvas."""
    native: images.Pixels
    """(height, width) as in the file."""
    bit_depth: int
    size: tuple[int, int]
    """Native height and width, px."""
    warnings: list[WarningDict]
    details: DetailsDict
    """Empty unless details were requested."""


@dataclass(frozen=True)
class FailedCell:
    """A file, or a page of one, that cannot be classified."""

    file: str
    page: int | None
    object: int | None
    error: ImageError


class TooManyCells(Exception):  # noqa: N818  not an error of the file
    """A request has more cells than it may have."""


class CellDecoder:
    """Decodes files for one model."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.parser = paths.PathParser(Dataset.model_validate_json(json.dumps(spec.params["dataset"])))
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
            headers = images.read_headers(file.raw, file.name)
            if max_cells is not None and len(headers) > max_cells:
                raise TooManyCells
            _check_size(headers, file.name)
            for index, page in enumerate(images.decode_pages(file.raw, headers, file.name, MAX_PIXELS)):
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
        count = 0
        try:
            native = NativeFile(file, name)
            channel = native.choose_channel(self._spec.channel)
            if max_cells is not None and (native.acquisition.objects or 0) > max_cells:
                raise TooManyCells
            for place in islice(native.places(start), objects):
                count += 1
                if max_cells is not None and count > max_cells:
                    raise TooManyCells
                yield self._object(native.read(place, [channel], MAX_PIXELS), name, place.object, details=details)
                _check_pixels(native)
            if not count and start is None:
                yield FailedCell(name, None, None, ImageError("empty", f"{name}: holds no object; save it again"))
        except ImageError as error:
            yield FailedCell(name, None, None, error)

    def _object(
        self, found: NativeObject | ImageError, name: str, number: int, *, details: bool
    ) -> DecodedCell | FailedCell:
        if isinstance(found, ImageError):
            return FailedCell(name, None, number, found)
        header = Header("CIF", found.facts.height, found.facts.width, 1, BIT_DEPTH)
        return self._cell((header, found.images[0]), name, None, number, details=details)

    def decode_one(self, file: Upload) -> DecodedCell:
        """Return the cell of a file with a single page; raises ImageError."""
        name = self.parser.read_name(file.name)
        if self._is_other(name.channel):
            raise ImageError(
                "other_channel",
                f"{file.name}: channel {name.channel}, but the model was trained on channel {self._spec.channel}; "
                "send that channel",
            )
        headers = images.read_headers(file.raw, file.name)
        if len(headers) != 1:
            raise ImageError(
                "pages",
                f"{file.name}: {len(headers)} pages where 1 was expected; send many cells to /classify_batch",
            )
        [page] = images.decode_pages(file.raw, headers, file.name, MAX_PIXELS)
        cell = self._cell(page, file.name, None, name.object, details=False)
        if isinstance(cell, FailedCell):
            raise cell.error
        return cell

    def is_other_channel(self, name: str) -> bool:
        """Return whether the name of a file says that it is of another channel than the model's.

        A native file has all channels.
        """
        return not is_native(name) and self._is_other(self.parser.read_name(name).channel)

    def _is_other(self, channel: str | None) -> bool:
        expected = self._spec.channel
        return channel is not None and expected is not None and not names.same_channel(channel, expected)

    def _cell(
        self,
        page: tuple[Header, images.Pixels] | ImageError,
        name: str,
        index: int | None,
        number: int | None,
        *,
        details: bool,
    ) -> DecodedCell | FailedCell:
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
            warnings=_warnings(header, self._spec),
            details=_details(header, pixels) if details else {},
        )


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


def _details(header: Header, pixels: images.Pixels) -> DetailsDict:
    figures = features.acquisition(pixels[None], header.bit_depth)[0].tolist()
    return {"thumbnail": thumbnails.thumbnail(pixels), "figures": [*figures, float(header.height), float(header.width)]}


def _warnings(header: Header, spec: Spec) -> list[WarningDict]:
    warnings: list[WarningDict] = []
    if header.format == "JPEG":
        message = "JPEG compression loses the fine structure of a cell; export TIFF, PNG or BMP"
        warnings.append({"code": "lossy", "message": message})
    sides = (("height", header.height, spec.height_px), ("width", header.width, spec.width_px))
    for side, value, (low, high) in sides:
        if not low <= value <= high:
            message = f"{side} of {value} px, but the model was trained on {low} to {high} px"
            warnings.append({"code": "size", "message": message})
    if header.height > spec.canvas[0] or header.width > spec.canvas[1]:
        message = (
            f"larger than the canvas of {spec.canvas[0]}x{spec.canvas[1]} px (height x width): the rim was cut off"
        )
        warnings.append({"code": "cut", "message": message})
    return warnings
