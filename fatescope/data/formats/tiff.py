"""TIFF: directories are read here, pixels by libtiff (imagecodecs).

What a directory announces is read from its bytes (Adobe TIFF 6.0, section 2), so that an image that is too large is
refused before anything is decoded.
"""

import re
import struct
from typing import Any

import imagecodecs
import numpy.typing as npt

from fatescope.data.formats import Header
from fatescope.errors import ImageError

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WIDTH, _HEIGHT, _BITS, _DESCRIPTION, _SAMPLES = 256, 257, 258, 270, 277
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MAX_TILE = 4096 * 4096
"""Largest tile, px: libtiff makes room for one, however small the image is."""
_TYPES = {3: ("H", 2), 4: ("I", 1)}
"""SHORT and LONG: how `struct` spells the type, and how many values fit into the directory entry itself."""
_MAX_DESCRIPTION = 100_000
"""Bytes of a description that are searched; the OME-XML of a single cell has a few thousand."""
_SIGNIFICANT_BITS = re.compile(rb'SignificantBits="(\d+)"')


def matches(raw: bytes) -> bool:
    """Return whether a file starts like a classic TIFF."""
    return raw[:4] in _BYTE_ORDERS


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the header of each page; raises ImageError where a directory cannot be read."""
    try:
        return _read_directories(raw, _BYTE_ORDERS[raw[:4]])
    except (struct.error, KeyError, ValueError) as error:
        raise ImageError(
            "truncated", f"{name}: a TIFF whose directory cannot be read ({error}); export the file again"
        ) from error


def decode_page(source: bytearray, header: Header, name: str) -> npt.NDArray[Any]:
    """Return the pixels of one page, (H, W) or (H, W, C); `source` is changed."""
    try:
        # libtiff would walk from the first directory to that of the page, for each page again; so it comes first.
        struct.pack_into(_BYTE_ORDERS[bytes(source[:4])] + "I", source, 4, header.offset)
        page: npt.NDArray[Any] = imagecodecs.tiff_decode(source, index=0)
    # A corrupt file makes the decoder fail in any of these ways, after asking for absurd amounts of memory too.
    except (OSError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is intact but the pixels cannot be decoded ({error}); export the file again",
        ) from error
    return page


def _read_directories(raw: bytes, order: str) -> list[Header]:
    headers: list[Header] = []
    visited = set[int]()
    (offset,) = struct.unpack_from(order + "I", raw, 4)
    while offset:
        if offset in visited:
            raise ValueError("its directories form a cycle")
        visited.add(offset)
        header, offset = _read_directory(raw, order, offset)
        headers.append(header)
    if not headers:
        raise ValueError("it has no page")
    return headers


def _read_directory(raw: bytes, order: str, offset: int) -> tuple[Header, int]:
    """Return the header in the directory at `offset`, and where the next directory is; 0 after the last.

    A tag that is given twice or has an unusual type raises ValueError: a decoder might interpret it in another way,
    and decode gigabytes where the header announced a few pixels.
    """
    (entries,) = struct.unpack_from(order + "H", raw, offset)
    end = offset + 2 + 12 * entries
    numbers, description = dict[int, int](), b""
    for at in range(offset + 2, end, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", raw, at)
        if tag == _DESCRIPTION:
            start = struct.unpack_from(order + "I", raw, at + 8)[0] if count > 4 else at + 8
            description = raw[start : start + min(count, _MAX_DESCRIPTION)]
        elif tag in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT):
            if kind not in _TYPES or tag in numbers or not count:
                raise ValueError(f"its tag {tag} is given twice, is empty, or is of type {kind}")
            code, inline = _TYPES[kind]
            start = struct.unpack_from(order + "I", raw, at + 8)[0] if count > inline else at + 8
            (numbers[tag],) = struct.unpack_from(order + code, raw, start)
    tile = numbers.get(_TILE_HEIGHT, 0), numbers.get(_TILE_WIDTH, 0)
    if tile[0] * tile[1] > _MAX_TILE:
        raise ValueError(f"it announces tiles of {tile[0]}x{tile[1]} px")
    significant = _SIGNIFICANT_BITS.search(description)
    bits = int(significant[1]) if significant else numbers.get(_BITS, 1)
    header = Header("TIFF", numbers[_HEIGHT], numbers[_WIDTH], numbers.get(_SAMPLES, 1), bits, offset)
    return header, struct.unpack_from(order + "I", raw, end)[0]
