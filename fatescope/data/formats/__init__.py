"""Container formats of images, one module each, and what such a module provides."""

from dataclasses import dataclass
from mmap import mmap
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fatescope.data.formats.facts import ExportedFacts
from fatescope.errors import ImageError

MAX_PAGES = 100_000
"""Most pages of a file. A page costs 114 bytes, and a request may be large: reading all of them would take minutes."""


@dataclass(frozen=True)
class Header:
    """What the header of an image says, before any pixel is decoded."""

    format: str
    """`TIFF`, `PNG`, `BMP` or `JPEG`; `CIF` for an object of a native file."""
    height: int
    """px, upright"""
    width: int
    """px, upright"""
    samples: int
    """Values per pixel."""
    bit_depth: int
    """Significant bits of a value, 1 to 16."""
    orientation: int = 1
    """How the stored pixels are turned, as in TIFF and Exif: 1 to 8, and 1 for pixels that are upright."""
    facts: ExportedFacts | None = None
    """What it says of the acquisition, where IDEAS exported it."""


def too_many_pages(name: str) -> ImageError:
    """Return the reason why a file of more than MAX_PAGES images is not read."""
    return ImageError("too_many_pages", f"{name}: more than {MAX_PAGES:,} pages; export fewer cells per file")


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return the (height, width) of an upright image whose pixels are stored with `orientation`."""
    return (width, height) if 5 <= orientation <= 8 else (height, width)


def upright(page: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return stored pixels, (H, W) or (H, W, C), upright; orientations that do not exist count as 1."""
    if not 2 <= orientation <= 8:
        return page
    if orientation >= 5:
        page = page.swapaxes(0, 1)
    # After that, rows run up for 3, 4, 7 and 8, and columns to the left for 2, 3, 6 and 7.
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(page[::rows, ::columns])


class Format(Protocol):
    """What a module of this package provides."""

    def matches(self, raw: bytes) -> bool:
        """Return whether the bytes of a file start like this format."""

    def read_headers(self, raw: bytes, name: str) -> list[Header]:
        """Return the header of each page; raises ImageError where they cannot be read. `name` is for messages."""

    def is_plain(self, header: Header) -> bool:
        """Return whether `decode_page` reads a page without a library in C, which damaged bytes may end or stop."""

    def decode_page(self, source: bytearray | mmap, header: Header, name: str) -> npt.NDArray[Any]:
        """Return the grey levels or colours of one page, (H, W) or (H, W, C), of whatever type the file has, as stored.

        Two or four channels are grey or RGB with an alpha channel. Palettes are applied, and zero is black.
        `source` is a copy of the file that the call may change. Raises ImageError where the page cannot be decoded.
        """
