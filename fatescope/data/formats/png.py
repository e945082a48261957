"""PNG: chunks are read here, pixels by libpng (imagecodecs), because Pillow reads 8 of the 16 bits of colours.

W3C PNG Specification, third edition, sections 5 and 11. Chunks that say how to display the values (gAMA, sRGB, iCCP,
sBIT) leave them as they are.
"""

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap
from typing import Any

import imagecodecs
import numpy.typing as npt

from fatescope.data.formats import Header, upright_size
from fatescope.data.formats.tiff_directory import read_orientation
from fatescope.errors import ImageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Colour type → values per pixel: grey, RGB, palette, grey with alpha, RGB with alpha."""
_PALETTE = 3
_ESSENTIAL = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk."""


def matches(raw: bytes) -> bool:
    """Return whether a file starts like a PNG."""
    return raw.startswith(_SIGNATURE)


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the one header of a file; raises ImageError where it cannot be read, or where there are several images."""
    try:
        header, images = _read(raw)
    except (struct.error, ValueError, StopIteration) as error:
        raise ImageError(
            "truncated", f"{name}: a PNG whose header cannot be read ({error}); export the file again"
        ) from error
    if images > 1:
        raise ImageError("pages", f"{name}: an animation of {images} images; export one image per file")
    return [header]


def is_plain(header: Header) -> bool:  # noqa: ARG001 - of `Format`
    """Return False: no page is decoded without the library."""
    return False


def decode_page(source: bytearray | mmap, header: Header, name: str) -> npt.NDArray[Any]:  # noqa: ARG001 - of `Format`
    """Return the pixels of the file, (H, W) or (H, W, C)."""
    try:
        page: npt.NDArray[Any] = imagecodecs.png_decode(_essence(source))
    # A corrupt file makes the decoder fail in any of these ways, after asking for absurd amounts of memory too.
    except (struct.error, OSError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is intact but the pixels cannot be decoded ({error}); export the file again",
        ) from error
    return page


def _read(raw: bytes) -> tuple[Header, int]:
    """Return the header, and the number of images: more than one in an animation."""
    chunks, orientation, images = _chunks(raw), 1, 1
    kind, start, _ = next(chunks)
    width, height, bits, colour = struct.unpack_from(">IIBB", raw, start)
    if kind != b"IHDR" or colour not in _SAMPLES:
        raise ValueError(f"its first chunk is {kind!r}, of colour type {colour}")
    for kind, start, length in chunks:
        if kind == b"acTL":
            (images,) = struct.unpack_from(">I", raw, start)
        if kind == b"eXIf":
            orientation = read_orientation(raw[start : start + length])
        if kind == b"IDAT":
            break
    # The colours of a palette have 8 bits, whatever its indices have.
    depth = 8 if colour == _PALETTE else bits
    return Header("PNG", *upright_size(height, width, orientation), _SAMPLES[colour], depth, orientation), images


def _essence(source: bytearray | mmap) -> bytes:
    """Return a PNG with no other chunks than its pixels need, whose checksums hold; raises ValueError for damaged ones.

    libpng would decode damaged chunks, and print warnings about many of the others.
    """
    parts = [_SIGNATURE]
    for kind, start, length in _chunks(source):
        if kind in _ESSENTIAL:
            end = start + length
            if zlib.crc32(source[start - 4 : end]).to_bytes(4) != source[end : end + 4]:
                raise ValueError(f"the checksum of a chunk {kind.decode()} is wrong")
            parts.append(bytes(source[start - 8 : end + 4]))
        if kind == b"IEND":
            break
    return b"".join([*parts, _END])


def _chunks(raw: bytes | bytearray | mmap) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk, where its content starts, bytes from the start of the file, and its bytes."""
    at = len(_SIGNATURE)
    while at < len(raw):
        length, kind = struct.unpack_from(">I4s", raw, at)
        yield kind, at + 8, length
        at += length + 12
