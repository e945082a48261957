"""How many pixels a file may have, whose pages or objects can share the same few bytes."""

from fatescope.data.images import Header
from fatescope.data.native.reader import NativeFile
from fatescope.errors import ImageError

MAX_FILE_PIXELS = 100_000_000
"""Largest number of pixels of all pages of a file together: thousands of pages can share the same few bytes."""

_PIXELS_PER_BYTE = 2
"""Of all channels of a native file, at most: a file with more uses the same bytes for several objects."""


def check_size(headers: list[Header], name: str) -> None:
    """Raise ImageError where the pages of a file announce too many pixels together."""
    announced = sum(header.height * header.width for header in headers)
    if announced > MAX_FILE_PIXELS:
        raise ImageError(
            "too_large",
            f"{name}: its {len(headers):,} pages announce {announced:,} px, but a file may have {MAX_FILE_PIXELS:,}; "
            "export fewer cells per file",
        )


def check_pixels(native: NativeFile) -> None:
    """Raise ImageError where the objects that were found in a native file so far have too many pixels."""
    most = max(MAX_FILE_PIXELS, _PIXELS_PER_BYTE * native.size)
    if native.pixels > most:
        raise ImageError(
            "too_large",
            f"{native.name}: the objects so far have {native.pixels:,} px in all channels, but a file of its size may "
            f"have {most:,}; copy or save it again",
        )
