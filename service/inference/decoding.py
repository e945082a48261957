"""From files to cells on the canvas of a model, or to the reason why not."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset
from fatescope.data import features, images, paths
from fatescope.data.images import Header
from fatescope.errors import ImageError
from fatescope.inference.bundle import Spec
from service.inference import thumbnails
from service.inference.errors import Warned
from service.inference.files import Refused, Upload

MAX_PIXELS = 1_000_000
"""The most pixels that the header of an image may announce."""
MAX_FILE_PIXELS = 100_000_000
"""The most that the pages of one file may announce together: thousands may share the same few bytes."""

# How IDEAS numbers what it exports, where the pattern of the model's own data does not fit.
_EXPORTED = re.compile(r"(?:^|[/_])(?P<object>\d+)_Ch(?P<channel>\d+)\.")


@dataclass(frozen=True)
class Readable:
    """A cell that the model can judge."""

    file: str
    page: int | None
    object: int | None
    pixels: npt.NDArray[np.uint16]
    """(H, W) on the canvas."""
    native: images.Pixels
    """(height, width) as it came."""
    bit_depth: int
    size: tuple[int, int]
    """Native height and width, px."""
    warnings: list[Warned]
    details: dict[str, Any]
    """`thumbnail` and `figures`, where they were asked for."""


@dataclass(frozen=True)
class Unreadable:
    """A file or page that it cannot."""

    file: str
    page: int | None
    object: int | None
    error: ImageError


class Reader:
    """Reads files for one model."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._names = paths.PathParser(Dataset.model_validate_json(json.dumps(spec.params["dataset"])))

    def read(self, file: Upload | Refused, *, details: bool = False) -> Iterator[Readable | Unreadable]:
        """Yield the cells of `file`, one a page."""
        number, _ = self._named(file.name)
        if isinstance(file, Refused):
            yield Unreadable(file.name, None, number, file.error)
            return
        try:
            headers = images.read_headers(file.raw, file.name)
            _refuse_vast(headers, file.name)
            for page, found in enumerate(images.decode_pages(file.raw, headers, file.name, MAX_PIXELS)):
                yield self._cell(found, file.name, page if len(headers) > 1 else None, number, details=details)
        except ImageError as error:
            yield Unreadable(file.name, None, number, error)

    def read_one(self, file: Upload) -> Readable:
        """Return the cell of a file that has one; raises ImageError."""
        number, channel = self._named(file.name)
        if self.is_other(file.name):
            raise ImageError(
                "other_channel",
                f"{file.name}: channel {channel}, but the model looks at channel {self._spec.channel}; send that one",
            )
        headers = images.read_headers(file.raw, file.name)
        if len(headers) != 1:
            raise ImageError(
                "pages",
                f"{file.name}: {len(headers)} pages where 1 was expected; send many cells to /classify_batch",
            )
        [found] = images.decode_pages(file.raw, headers, file.name, MAX_PIXELS)
        cell = self._cell(found, file.name, None, number)
        if isinstance(cell, Unreadable):
            raise cell.error
        return cell

    def _cell(
        self,
        found: tuple[Header, images.Pixels] | ImageError,
        name: str,
        page: int | None,
        number: int | None,
        *,
        details: bool = False,
    ) -> Readable | Unreadable:
        if isinstance(found, ImageError):
            return Unreadable(name, page, number, found)
        header, pixels = found
        try:
            _refuse_foreign(header, self._spec, name)
        except ImageError as error:
            return Unreadable(name, page, number, error)
        size = (header.height, header.width)
        placed = images.center(images.cut(pixels, self._spec.canvas), self._spec.canvas, name)
        shown = _describe(header, pixels) if details else {}
        return Readable(name, page, number, placed, pixels, header.bit_depth, size, _warn(header, self._spec), shown)

    def is_other(self, name: str) -> bool:
        """Tell by the name of a file whether it is of another channel than the one that the model looks at."""
        _, channel = self._named(name)
        return None not in (channel, self._spec.channel) and channel != self._spec.channel

    def _named(self, name: str) -> tuple[int | None, str | None]:
        """Return the object number and the channel that a file name spells, where it does."""
        read, exported = self._names.read(name), _EXPORTED.search(name)
        facts = read.facts if read else exported.groupdict() if exported else {}
        number = facts.get("object", "")
        # More digits than any instrument counts to are no number.
        return int(number) if number.isdecimal() and len(number) <= 18 else None, facts.get("channel")


def _refuse_foreign(header: Header, spec: Spec, name: str) -> None:
    """Raise ImageError for an image of a kind that the model has not learned from."""
    if header.bit_depth not in spec.bit_depths:
        expected = " or ".join(map(str, spec.bit_depths))
        raise ImageError(
            "bit_depth",
            f"{name}: {header.bit_depth} bit a pixel, but the model was trained on {expected} bit; "
            "export with the camera's own depth",
        )


def _refuse_vast(headers: list[Header], name: str) -> None:
    announced = sum(header.height * header.width for header in headers)
    if announced > MAX_FILE_PIXELS:
        raise ImageError(
            "too_large",
            f"{name}: its {len(headers):,} pages announce {announced:,} px, but a file may have {MAX_FILE_PIXELS:,}; "
            "export fewer cells a file",
        )


def _describe(header: Header, pixels: images.Pixels) -> dict[str, Any]:
    figures = features.acquisition(pixels[None], header.bit_depth)[0].tolist()
    return {"thumbnail": thumbnails.thumbnail(pixels), "figures": [*figures, float(header.height), float(header.width)]}


def _warn(header: Header, spec: Spec) -> list[Warned]:
    found = []
    if header.format == "JPEG":
        found.append(Warned(code="lossy", message="JPEG loses the fine structure of a cell; export TIFF, PNG or BMP"))
    sides = (("height", header.height, spec.height_px), ("width", header.width, spec.width_px))
    for side, value, (low, high) in sides:
        if not low <= value <= high:
            message = f"{side} of {value} px, but the model was trained on {low} to {high} px"
            found.append(Warned(code="size", message=message))
    if header.height > spec.canvas[0] or header.width > spec.canvas[1]:
        message = (
            f"larger than the canvas of {spec.canvas[0]}x{spec.canvas[1]} px (height x width): the rim was cut off"
        )
        found.append(Warned(code="cut", message=message))
    return found
