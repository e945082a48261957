"""Which images a TIFF holds: thumbnails and masks are none, and some programs describe a whole stack in one directory.

ImageJ above 4 GB, MetaMorph, and tifffile with `truncate` write the slices of a stack one after the other behind a
single directory. Where a file announces more slices than can be found, it is refused: a part of a stack is no answer.
"""

import math
import re
import struct

from fatescope.data.formats import MAX_PAGES, too_many_pages
from fatescope.data.formats import tiff_directory as tags
from fatescope.data.formats.tiff_directory import Directory
from fatescope.data.formats.tiff_ome import announced_pages
from fatescope.errors import ImageError

_IMAGEJ = re.compile(rb"^(?:ImageJ|SCIFIO)=", re.MULTILINE)
_IMAGEJ_SLICES = re.compile(rb"^images=(\d{1,9})", re.MULTILINE)
_SHAPE = re.compile(rb'"shape":\s?\[(\d{1,9}(?:,\s?\d{1,9}){0,9})\]')
_MICRO_MANAGER_INDEX, _MICRO_MANAGER_MAP = 54_773_648, 3_453_623
"""Magic numbers: at byte 8 of a file, followed by where its map of planes is, and at the start of that map."""
_MAX_SUB_DIRECTORIES = 10_000
_MAX_STRIPS = 100_000
"""Of all directories that announce a stack, which is one directory in what programs write."""

Slice = tuple[int, Directory, int | None]
"""The page of a directory, the directory, and where its pixels start if they are not where the directory says."""


def find_slices(raw: bytes, directories: list[Directory], name: str) -> list[Slice]:
    """Return the images of a file; raises ImageError where there is none, or where slices cannot be found."""
    pages = [(page, directory) for page, directory in enumerate(directories) if not directory.is_copy]
    if not pages:
        raise ImageError("pages", f"{name}: holds nothing but thumbnails or masks; export the image itself")
    _check_sub_directories(raw, [directory for _, directory in pages], name)
    announced = max((announced_pages(text) for text in directories[0].descriptions), default=0)
    if announced > len(directories):
        raise _lost(name, announced, len(directories))
    total = _announced_by_file(raw, directories[0])
    slices, strips = list[Slice](), 0
    for page, directory in pages:
        announced = _announced_by_page(directory)
        if len(pages) == 1:
            announced = max(announced, total)
        strips += directory.count(tags.STRIP_OFFSETS) if announced > 1 else 0
        if strips > _MAX_STRIPS:
            raise ValueError(f"its stacks have {strips:,} strips")
        slices += [(page, directory, start) for start in _starts(raw, directory, announced, name)]
        if len(slices) > MAX_PAGES:
            raise too_many_pages(name)
    if total > len(slices):
        raise _lost(name, total, len(slices))
    return slices


def _check_sub_directories(raw: bytes, pages: list[Directory], name: str) -> None:
    """Raise ImageError where directories below a page hold more than smaller copies of it, or masks."""
    total = sum(page.count(tags.SUB_DIRECTORIES) for page in pages)
    if not total:
        return
    if total > _MAX_SUB_DIRECTORIES:
        raise ValueError(f"it has {total:,} directories below its pages")
    parents = {offset: page for page in pages for offset in page.values(raw, tags.SUB_DIRECTORIES)}
    for offset, page in parents.items():
        below, _ = tags.read_directory(raw, page.layout, offset)
        if not (below.is_copy or below.width < page.width or below.height < page.height):
            raise ImageError(
                "pages", f"{name}: has further images in directories below its pages; export one image per page"
            )


def _announced_by_page(directory: Directory) -> int:
    """Return how many slices one directory announces to stand for."""
    planes = directory.entries.get(tags.METAMORPH_PLANES)
    if planes:
        return planes.total
    for text in directory.descriptions:
        if text.startswith(b"{") and b'"truncated"' in text:
            shape = _SHAPE.search(text)
            pixels = directory.height * directory.width * directory.samples
            if not (shape and pixels):
                raise ValueError("its description announces a stack that cannot be made out")
            return math.prod(int(side) for side in shape[1].split(b",")) // pixels
    return 1


def _announced_by_file(raw: bytes, first: Directory) -> int:
    """Return how many slices the head of a file announces: the index of Micro-Manager, or ImageJ's description."""
    order = first.layout.order
    if first.offset >= 16 and len(raw) >= 16:
        magic, at = struct.unpack_from(order + "II", raw, 8)
        if magic == _MICRO_MANAGER_INDEX and 0 < at <= len(raw) - 8:
            magic, planes = struct.unpack_from(order + "II", raw, at)
            if magic == _MICRO_MANAGER_MAP:
                return int(planes)
    for text in first.descriptions:
        if _IMAGEJ.search(text) and (match := _IMAGEJ_SLICES.search(text)):
            return int(match[1])
    return 1


def _starts(raw: bytes, directory: Directory, announced: int, name: str) -> list[int | None]:
    """Return where the pixels of each slice start that one directory announces."""
    if announced <= 1:
        return [None]
    offsets, sizes = directory.values(raw, tags.STRIP_OFFSETS), directory.values(raw, tags.STRIP_SIZES)
    size = directory.height * directory.width * directory.samples * directory.bits // 8
    plain = (
        directory.numbers.get(tags.COMPRESSION, 1) == 1
        and directory.bits in (8, 16, 32)
        and directory.numbers.get(tags.FILL_ORDER, 1) != 2
        and (directory.samples == 1 or directory.numbers.get(tags.PLANAR, 1) == 1)
        and announced > 0
    )
    follows = all(start + count == after for start, count, after in zip(offsets, sizes, offsets[1:], strict=False))
    if not (plain and offsets and follows and size and offsets[0] + announced * size <= len(raw)):
        raise _lost(name, announced, 1)
    if announced > MAX_PAGES:
        raise too_many_pages(name)
    return [offsets[0] + i * size for i in range(announced)]


def _lost(name: str, announced: int, slices: int) -> ImageError:
    return ImageError(
        "pages",
        f"{name}: announces {announced:,} slices, but {slices:,} can be found; "
        "save the stack again as a TIFF with one page per slice, or one cell per file",
    )
