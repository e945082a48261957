"""PNG, BMP and JPEG, read by Pillow: one page a file."""

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fatescope.data.formats import Header
from fatescope.errors import ImageError

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"\xff\xd8\xff": "JPEG"}
_MODE_DEPTH = {"1": 1, "I": 32, "F": 32}
"""Bit depth of the modes of Pillow that have other than 8."""


def matches(raw: bytes) -> bool:
    """Return whether a file starts like a PNG, BMP or JPEG."""
    return raw.startswith(tuple(_SIGNATURES))


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the one header of a file; raises ImageError where Pillow cannot read it."""
    kind = next(kind for signature, kind in _SIGNATURES.items() if raw.startswith(signature))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Opening reads the header only; our own limit on pixels is checked before anything is decoded.
            with Image.open(io.BytesIO(raw), formats=[kind]) as image:
                depth = 16 if image.mode.startswith("I;16") else _MODE_DEPTH.get(image.mode, 8)
                return [Header(kind, image.height, image.width, len(image.getbands()), depth)]
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{name}: {error}; export one cell per file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            "truncated", f"{name}: a {kind} whose header cannot be read ({error}); export the file again"
        ) from error


def decode_page(source: bytearray, header: Header, name: str) -> npt.NDArray[Any]:
    """Return the pixels of the file, (H, W) or (H, W, C)."""
    try:
        with Image.open(io.BytesIO(source), formats=[header.format]) as image:
            # The values of a palette image are indices, not grey levels.
            return np.asarray(image.convert("RGB") if image.mode == "P" else image)
    # A corrupt file makes the decoder fail in any of these ways, after asking for absurd amounts of memory too.
    except (OSError, SyntaxError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is intact but the pixels cannot be decoded ({error}); export the file again",
        ) from error
