"""BMP and JPEG, read by Pillow: one page a file."""

import io
import struct
import warnings
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fatescope.data.formats import Header, upright_size
from fatescope.data.formats.tiff_directory import read_orientation
from fatescope.errors import ImageError

_SIGNATURES = {b"BM": "BMP", b"\xff\xd8\xff": "JPEG"}
_BMP_BITS = 28
"""Where a BMP has its bits per pixel, bytes from the start of the file, if the header after its own has 40 or more."""


def matches(raw: bytes) -> bool:
    """Return whether a file starts like a BMP or JPEG."""
    return raw.startswith(tuple(_SIGNATURES))


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the one header of a file; raises ImageError where Pillow cannot read it."""
    kind = next(kind for signature, kind in _SIGNATURES.items() if raw.startswith(signature))
    try:
        # Opening reads the header only; our own limit on pixels is checked before anything is decoded.
        with _open(raw, kind) as image:
            if image.mode == "CMYK":
                raise ImageError("channels", f"{name}: CMYK where grey was expected; export it as greyscale")
            orientation = read_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
            size = upright_size(image.height, image.width, orientation)
            samples = 3 if image.mode == "RGBA" else len(image.getbands())
            return [Header(kind, *size, samples, _bit_depth(raw, image), orientation)]
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{name}: {error}; export one cell per file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(
            "truncated", f"{name}: a {kind} whose header cannot be read ({error}); export the file again"
        ) from error


def is_plain(header: Header) -> bool:  # noqa: ARG001 - of `Format`
    """Return False: no page is decoded without the library."""
    return False


def decode_page(source: bytearray | mmap, header: Header, name: str) -> npt.NDArray[Any]:
    """Return the pixels of the file, (H, W) or (H, W, C)."""
    try:
        with _open(source, header.format) as image:
            # The values of a palette image are indices, not grey levels; the alpha channel of a BMP is not displayed.
            return np.asarray(image.convert("RGB") if image.mode in ("P", "RGBA") else image)
    # A corrupt file makes the decoder fail in any of these ways, after asking for absurd amounts of memory too.
    except (OSError, SyntaxError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is intact but the pixels cannot be decoded ({error}); export the file again",
        ) from error


def _open(raw: bytes | bytearray | mmap, kind: str) -> Image.Image:
    with warnings.catch_warnings():
        # Of many pixels, and of parts that are not read.
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(raw), formats=[kind])


def _bit_depth(raw: bytes, image: Image.Image) -> int:
    if image.mode == "1":
        return 1
    if image.format != "BMP":
        return 8
    # A BMP of 16 bits per pixel has 5 or 6 for each colour.
    (header,) = struct.unpack_from("<I", raw, 14)
    return 5 if header >= 40 and struct.unpack_from("<H", raw, _BMP_BITS) == (16,) else 8
