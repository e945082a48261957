"""Bytes to pixels: the only decoder, for training and serving alike.

Headers are read before anything is decoded, so that an image that is too large costs nothing.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fatescope.errors import ImageError

Pixels = npt.NDArray[np.unsignedinteger]

MIN_SIDE = 8
"""A crop with a shorter side, px, holds no cell; normalisation needs a border around something."""
FRAME = 2
"""Width in px of the border that counts as background."""

_TIFF_MAGIC = {b"II*\0": "<", b"MM\0*": ">"}
_OTHER_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"\xff\xd8\xff": "JPEG"}
_PILLOW_DEPTH = {"1": 1, "I": 32, "F": 32}
_FORMATS = "PNG, BMP, JPEG or TIFF of 8 to 16 bit"
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_DESCRIPTION, _TIFF_SAMPLES = 256, 257, 258, 270, 277
_TIFF_FORMS = {3: ("H", 2), 4: ("I", 1)}  # SHORT and LONG: how a value reads, and how many fit into the entry itself
_TIFF_MAX_TEXT = 100_000
"""How much of a description is searched, bytes; the OME-XML of a single cell has a few thousand."""
_SIGNIFICANT_BITS = re.compile(rb'SignificantBits="(\d+)"')


@dataclass(frozen=True)
class Header:
    """What an image announces of itself, before it is decoded."""

    format: str
    """`TIFF`, `PNG`, `BMP` or `JPEG`."""
    height: int
    """px"""
    width: int
    """px"""
    samples: int
    """Values a pixel."""
    bit_depth: int
    """Significant bits of a value, 1 to 16."""
    offset: int = 0
    """Where a page of a TIFF has its directory, bytes from the start."""


def decode(raw: bytes, name: str, max_pixels: int) -> list[tuple[Header, Pixels]]:
    """Decode every page of one file into (header, (H, W) uint8 or uint16 pixels).

    Colour files whose channels are all equal count as grey. `name` is only for messages.
    Raises ImageError for anything that is not a grey image of 8 to 16 bit with sides from MIN_SIDE px and at most
    `max_pixels` px a page, without decoding what its header already rules out.
    """
    headers = read_headers(raw, name)
    for header in headers:
        _check(header, name, max_pixels)
    pages = []
    for page in decode_pages(raw, headers, name, max_pixels):
        if isinstance(page, ImageError):
            raise page
        pages.append(page)
    return pages


def decode_pages(
    raw: bytes, headers: list[Header], name: str, max_pixels: int
) -> Iterator[tuple[Header, Pixels] | ImageError]:
    """Decode one file, of which `read_headers` gave `headers`, page by page; a bad one does not cost the others.

    See `decode` for what is refused.
    """
    source = bytearray(raw) if headers[0].format == "TIFF" else raw
    for header in headers:
        try:
            _check(header, name, max_pixels)
            yield header, _grey(_decode_page(source, header, name), header, name)
        except ImageError as error:
            yield error


def _decode_page(raw: bytes | bytearray, header: Header, name: str) -> npt.NDArray[Any]:
    try:
        if isinstance(raw, bytearray):
            # The library would walk from the first directory to the page's own; so that comes first.
            struct.pack_into(_TIFF_MAGIC[bytes(raw[:4])] + "I", raw, 4, header.offset)
            page: npt.NDArray[Any] = imagecodecs.tiff_decode(raw, index=0)
            return page
        with Image.open(io.BytesIO(raw), formats=[header.format]) as image:
            # A palette's indices are no grey levels.
            return np.asarray(image.convert("RGB") if image.mode == "P" else image)
    # Corrupt files make the decoders fail in all these ways, asking for absurd amounts of memory among them.
    except (OSError, SyntaxError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is fine but the pixels cannot be read ({error}); export the file again",
        ) from error


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the header of each page without decoding pixels; raises ImageError where there is none."""
    if not raw:
        raise ImageError("empty", f"{name}: the file is empty; export or upload it again")
    order = _TIFF_MAGIC.get(raw[:4])
    if order is not None:
        try:
            return _tiff_headers(raw, order)
        except (struct.error, KeyError, ValueError) as error:
            raise ImageError(
                "truncated", f"{name}: a TIFF whose directory cannot be read ({error}); export the file again"
            ) from error
    for magic, kind in _OTHER_MAGIC.items():
        if raw.startswith(magic):
            return [_pillow_header(raw, name, kind)]
    raise ImageError("not_an_image", f"{name}: not an image (starts with {raw[:8]!r}); expected {_FORMATS}")


def border(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of the outer frame of FRAME px of (..., H, W) as (..., n)."""
    lead = pixels.shape[:-2]
    inner = pixels[..., FRAME:-FRAME, :]
    parts = (pixels[..., :FRAME, :], pixels[..., -FRAME:, :], inner[..., :FRAME], inner[..., -FRAME:])
    return np.concatenate([part.reshape(*lead, -1) for part in parts], axis=-1)


def background(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the median of the border of (..., H, W) pixels, counts."""
    return median(border(pixels))


def median(frame: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the median of a (..., n) border, n even; the same as np.median, for a twentieth of the time."""
    half = frame.shape[-1] // 2
    ordered = np.sort(frame, axis=-1)
    level: npt.NDArray[np.float64] = (ordered[..., half - 1].astype(np.float64) + ordered[..., half]) / 2
    return level


def center(pixels: Pixels, canvas: tuple[int, int], name: str) -> npt.NDArray[np.uint16]:
    """Place (H, W) pixels in the middle of a `canvas` (height, width), padded with their own background level.

    Raises ImageError for a cell that is larger than the canvas: cutting it would show the model something else.
    """
    height, width = pixels.shape
    if height > canvas[0] or width > canvas[1]:
        raise ImageError(
            "too_large",
            f"{name}: {height}x{width} px do not fit the canvas of {canvas[0]}x{canvas[1]} px (height x width); "
            "export smaller crops, or retrain with a larger ingest.canvas",
        )
    top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    placed = np.full(canvas, int(background(pixels)), np.uint16)
    placed[top : top + height, left : left + width] = pixels
    return placed


def cut(pixels: Pixels, canvas: tuple[int, int]) -> Pixels:
    """Return the middle of (H, W) pixels, as much of it as a `canvas` (height, width) holds."""
    for axis, side in enumerate(canvas):
        spare = pixels.shape[axis] - side
        if spare > 0:
            pixels = np.take(pixels, range(spare // 2, spare // 2 + side), axis=axis)
    return pixels


def check_crop(pixels: npt.NDArray[np.generic], name: str) -> Pixels:
    """Return (H, W) pixels from memory as they are, if they can be a cell; raises ImageError where they cannot."""
    if pixels.ndim != 2:
        raise ImageError("channels", f"{name}: an array of shape {pixels.shape}; expected (height, width)")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("bit_depth", f"{name}: pixels of type {pixels.dtype}; expected raw counts as uint8 or uint16")
    if min(pixels.shape) < MIN_SIDE:
        height, width = pixels.shape
        raise ImageError(
            "too_small", f"{name}: {height}x{width} px (height x width); a cell needs {MIN_SIDE} px a side"
        )
    return cast("Pixels", pixels)


def _check(header: Header, name: str, max_pixels: int) -> None:
    size = f"{header.height}x{header.width} px (height x width)"
    if min(header.height, header.width) < MIN_SIDE:
        raise ImageError("too_small", f"{name}: {size}, but a cell needs {MIN_SIDE} px a side; export whole crops")
    if header.height * header.width > max_pixels:
        raise ImageError(
            "too_large", f"{name}: {size}, but one image may have {max_pixels:,} px; export one cell a file"
        )
    if header.samples not in (1, 3, 4):
        raise ImageError(
            "channels",
            f"{name}: {header.samples} channels where 1 was expected; "
            "export one channel per file or set dataset.input_channel",
        )
    if not 8 <= header.bit_depth <= 16:
        raise ImageError("bit_depth", f"{name}: {header.bit_depth} bit a pixel; expected {_FORMATS}")


def _grey(page: npt.NDArray[np.generic], header: Header, name: str) -> Pixels:
    if page.ndim == 3 and page.shape[-1] in (3, 4):
        if (page[..., :1] != page[..., :3]).any():
            raise ImageError(
                "channels",
                f"{name}: {page.shape[-1]} different channels (a colour image) where 1 was expected; "
                "export one channel per file or set dataset.input_channel",
            )
        page = page[..., 0]
    if page.shape != (header.height, header.width):
        raise ImageError("channels", f"{name}: decodes to shape {page.shape}, not to one grey image; export it as grey")
    if page.dtype in (np.uint8, np.uint16):
        return cast("Pixels", page)
    raise ImageError("bit_depth", f"{name}: pixels of type {page.dtype}; expected unsigned integers of 8 to 16 bit")


def _pillow_header(raw: bytes, name: str, kind: str) -> Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Opening reads the header only; our own limit on pixels is checked before anything is decoded.
            with Image.open(io.BytesIO(raw), formats=[kind]) as image:
                depth = 16 if image.mode.startswith("I;16") else _PILLOW_DEPTH.get(image.mode, 8)
                return Header(kind, image.height, image.width, len(image.getbands()), depth)
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{name}: {error}; export one cell a file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            "truncated", f"{name}: a {kind} whose header cannot be read ({error}); export the file again"
        ) from error


def _tiff_headers(raw: bytes, order: str) -> list[Header]:
    """Walk the image file directories of a classic TIFF (Adobe TIFF 6.0, section 2)."""
    headers, seen = [], set[int]()
    (offset,) = struct.unpack_from(order + "I", raw, 4)
    while offset:
        if offset in seen:
            raise ValueError("its directories form a circle")
        seen.add(offset)
        header, offset = _tiff_header(raw, order, offset)
        headers.append(header)
    if not headers:
        raise ValueError("it has no page")
    return headers


def _tiff_header(raw: bytes, order: str, offset: int) -> tuple[Header, int]:
    """Read the directory at `offset`; return what it says, and where the next one is.

    What is said twice or in an unusual type is refused: a decoder might read it otherwise, and take an image of
    gigabytes for one of a few pixels.
    """
    (entries,) = struct.unpack_from(order + "H", raw, offset)
    end = offset + 2 + 12 * entries
    numbers, text = dict[int, int](), b""
    for at in range(offset + 2, end, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", raw, at)
        if tag == _TIFF_DESCRIPTION:
            start = struct.unpack_from(order + "I", raw, at + 8)[0] if count > 4 else at + 8
            text = raw[start : start + min(count, _TIFF_MAX_TEXT)]
        elif tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES):
            if kind not in _TIFF_FORMS or tag in numbers or not count:
                raise ValueError(f"its tag {tag} is given twice, is empty, or is of type {kind}")
            form, inline = _TIFF_FORMS[kind]
            start = struct.unpack_from(order + "I", raw, at + 8)[0] if count > inline else at + 8
            (numbers[tag],) = struct.unpack_from(order + form, raw, start)
    described = _SIGNIFICANT_BITS.search(text)
    bits = int(described[1]) if described else numbers.get(_TIFF_BITS, 1)
    size = numbers[_TIFF_HEIGHT], numbers[_TIFF_WIDTH]
    header = Header("TIFF", *size, numbers.get(_TIFF_SAMPLES, 1), bits, offset)
    return header, struct.unpack_from(order + "I", raw, end)[0]
