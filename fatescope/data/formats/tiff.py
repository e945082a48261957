"""TIFF, classic and BigTIFF: directories are read by `tiff_directory`, pixels by libtiff (imagecodecs).

Pixels that are neither compressed nor in tiles are read here, which is safe with any bytes, and faster.

What a directory announces is read from its bytes, so that an image that is too large is refused before anything is
decoded.
"""

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from mmap import mmap
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from fatescope.data import instruments
from fatescope.data.formats import MAX_PAGES, Header, tiff_levels, too_many_pages, upright_size
from fatescope.data.formats import tiff_directory as tags
from fatescope.data.formats.facts import ExportedFacts
from fatescope.data.formats.tiff_amnis import read_facts
from fatescope.data.formats.tiff_directory import Directory, Layout
from fatescope.data.formats.tiff_ome import significant_bits
from fatescope.data.formats.tiff_slices import find_slices
from fatescope.errors import ImageError

_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
"""SampleFormat → kind of a NumPy type."""
_PLAIN = (None, tiff_levels.WHITE_IS_ZERO, tiff_levels.BLACK_IS_ZERO, tiff_levels.PALETTE)
"""What pixels mean that are read here."""
_MAX_STRIPS, _MAX_ALL_STRIPS = 1024, 200_000
"""Of an image that is read here, and of all images of a file: thousands of pages can share the same long list."""


@dataclass(frozen=True, kw_only=True)
class TiffHeader(Header):
    """What a TIFF says of one image."""

    directory: Directory
    start: int | None
    """Where the pixels are that follow each other uncompressed, bytes from the start of the file; None where only
    libtiff can read them."""


def matches(raw: bytes) -> bool:
    """Return whether a file starts like a TIFF."""
    return tags.layout_of(raw) is not None


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the header of each image; raises ImageError where a directory cannot be read."""
    layout = tags.layout_of(raw)
    assert layout is not None
    headers, strips = list[Header](), 0
    try:
        directories = _read_directories(raw, layout, name)
        depths = significant_bits(directories, name)
        palettes = _PaletteDepths(raw)
        for page, directory, start in find_slices(raw, directories, name):
            strips += directory.count(tags.STRIP_OFFSETS)
            own = _start(raw, directory) if start is None and strips <= _MAX_ALL_STRIPS else start
            depth = palettes.of(directory) or depths[page]
            headers.append(_header(directory, depth, own, read_facts(directory, raw)))
    except tags.DAMAGES as error:
        raise ImageError(
            "truncated", f"{name}: a TIFF whose directory cannot be read ({error}); export the file again"
        ) from error
    return headers


def is_plain(header: Header) -> bool:
    """Return whether the pixels of an image are read here, without libtiff."""
    assert isinstance(header, TiffHeader)
    return header.start is not None


def decode_page(source: bytearray | mmap, header: Header, name: str) -> npt.NDArray[Any]:
    """Return the grey levels or colours of one image, (H, W) or (H, W, C); `source` is changed."""
    assert isinstance(header, TiffHeader)
    directory = header.directory
    tiff_levels.check_levels(directory, header.bit_depth, name)
    try:
        start = header.start
        page = _decode(source, directory) if start is None else _cut_out(source, directory, start)
        return tiff_levels.to_levels(page, source, directory, name)
    # A corrupt file makes the decoder fail in any of these ways, after asking for absurd amounts of memory too.
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, MemoryError, OverflowError) as error:
        raise ImageError(
            "truncated",
            f"{name}: the header is intact but the pixels cannot be decoded ({error}); export the file again",
        ) from error


def _start(raw: bytes, directory: Directory) -> int | None:
    """Return where the pixels are that follow each other uncompressed; None where only libtiff can read them."""
    numbers = directory.numbers
    if not (
        numbers.get(tags.COMPRESSION, 1) == 1
        and directory.bits in (8, 16)
        and directory.samples == 1
        and numbers.get(tags.SAMPLE_FORMAT, 1) == 1
        and numbers.get(tags.FILL_ORDER, 1) == 1
        and numbers.get(tags.PHOTOMETRIC) in _PLAIN
        and tags.TILE_WIDTH not in numbers
        and tags.TILE_HEIGHT not in numbers
        and directory.count(tags.STRIP_OFFSETS) <= _MAX_STRIPS
    ):
        return None
    try:
        offsets, sizes = directory.values(raw, tags.STRIP_OFFSETS), directory.values(raw, tags.STRIP_SIZES)
    except struct.error:
        return None
    follows = all(start + count == after for start, count, after in zip(offsets, sizes, offsets[1:], strict=False))
    size = directory.height * directory.width * directory.bits // 8
    whole = len(offsets) == len(sizes) > 0 and follows and sum(sizes) == size and offsets[0] + size <= len(raw)
    return offsets[0] if whole else None


def _decode(source: bytearray | mmap, directory: Directory) -> npt.NDArray[Any]:
    # libtiff would walk from the first directory to that of the page, for each page again; so it comes first.
    struct.pack_into(directory.layout.pointer, source, directory.layout.first, directory.offset)
    page: npt.NDArray[Any] = imagecodecs.tiff_decode(source, index=0)
    planes = page.ndim == 3 and directory.samples > 1 and directory.numbers.get(tags.PLANAR) == 2
    return np.ascontiguousarray(np.moveaxis(page, 0, -1)) if planes else page


def _cut_out(source: bytearray | mmap, directory: Directory, start: int) -> npt.NDArray[Any]:
    """Return the uncompressed pixels at `start`."""
    kind = _SAMPLE_KINDS.get(directory.numbers.get(tags.SAMPLE_FORMAT, 1), "V")
    stored, native = _types(f"{directory.layout.order}{kind}{directory.bits // 8}")
    shape = (directory.height, directory.width) + ((directory.samples,) if directory.samples > 1 else ())
    return np.frombuffer(source, stored, math.prod(shape), start).astype(native).reshape(shape)


@lru_cache(maxsize=64)
def _types(stored: str) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the type of values as they are stored, and that of this machine."""
    kind = np.dtype(stored)
    return kind, kind.newbyteorder("=")


def _read_directories(raw: bytes, layout: Layout, name: str) -> list[Directory]:
    directories = list[Directory]()
    for directory in tags.read_chain(raw, layout):
        # Decided by the first directory: the others of such a file are not those of a TIFF.
        if not directories and instruments.is_amnis(directory.numbers):
            raise ImageError("not_an_image", f"{name}: {instruments.RAW_AMNIS}")
        if len(directories) >= MAX_PAGES:
            raise too_many_pages(name)
        directories.append(directory)
    if not directories:
        raise ValueError("it has no page")
    return directories


class _PaletteDepths:
    """The bits that the colours of palettes are meant in; many pages may share a palette."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._known: dict[tuple[tags.Entry | None, int], int] = {}

    def of(self, directory: Directory) -> int | None:
        """Return the bits of a page with a palette, None for other pages; raises ValueError for a damaged one."""
        if not tiff_levels.has_palette(directory):
            return None
        key = directory.entries.get(tags.PALETTE), directory.bits
        if key not in self._known:
            self._known[key] = tiff_levels.read_palette(self._raw, directory).itemsize * 8
        return self._known[key]


def _header(directory: Directory, bit_depth: int, start: int | None, facts: ExportedFacts | None) -> TiffHeader:
    orientation = directory.numbers.get(tags.ORIENTATION, 1)
    height, width = upright_size(directory.height, directory.width, orientation)
    return TiffHeader(
        "TIFF", height, width, directory.samples, bit_depth, orientation, facts, directory=directory, start=start
    )
