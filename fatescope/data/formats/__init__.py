"""Container formats of images, one module each, and what such a module provides."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

MAX_PAGES = 100_000
"""Most pages of a file. A page costs 114 bytes, and a request may be large: reading all of them would take minutes."""


@dataclass(frozen=True)
class Header:
    """What the header of an image says, before any pixel is decoded."""

    format: str
    """`TIFF`, `PNG`, `BMP` or `JPEG`."""
    height: int
    """px"""
    width: int
    """px"""
    samples: int
    """Values per pixel."""
    bit_depth: int
    """Significant bits of a value, 1 to 16."""
    offset: int = 0
    """Where a page of a TIFF has its directory, bytes from the start of the file."""


class Format(Protocol):
    """What a module of this package provides."""

    def matches(self, raw: bytes) -> bool:
        """Return whether the bytes of a file start like this format."""

    def read_headers(self, raw: bytes, name: str) -> list[Header]:
        """Return the header of each page; raises ImageError where they cannot be read. `name` is for messages."""

    def decode_page(self, source: bytearray, header: Header, name: str) -> npt.NDArray[Any]:
        """Return the pixels of one page, (H, W) or (H, W, C), of whatever type the file has.

        `source` is a copy of the file that the call may change. Raises ImageError where the page cannot be decoded.
        """
