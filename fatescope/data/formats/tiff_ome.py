"""What OME-XML says of the pages of a TIFF: their significant bits, on each page or once for all, and their number.

OME model 2016-06, elements Pixels and TiffData.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeVar

from fatescope.data.formats.tiff_directory import Directory
from fatescope.errors import ImageError

Result = TypeVar("Result")

_SIGNIFICANT_BITS = re.compile(rb"""\bSignificantBits\s?=\s?["'](\d{1,3})["']""")
_SERIES = re.compile(rb"<(?:\w{1,20}:)?Pixels\b")
_NUMBER = re.compile(rb"""\b(IFD|PlaneCount)\s?=\s?["'](\d{1,9})["']""")
_PLANES = re.compile(
    rb"<(?:\w{1,20}:)?TiffData\b([^>]{0,500})>(?:\s{0,100}<(?:\w{1,20}:)?UUID\b[^>]{0,1000}>([^<]{0,100})<)?"
)
_ALL = 64
"""Stands for all stored bits, which a series has that states nothing."""
_MAX_REMEMBERED = 4096
"""Bytes of a text of which it is remembered what it says."""
_ROOT = re.compile(rb"<(?:\w{1,20}:)?OME\b([^>]{0,2000})")
_UUID = re.compile(rb"""\bUUID\s?=\s?["']([^"']{0,100})["']""")


def _remembered(read: Callable[[bytes], Result]) -> Callable[[bytes], Result]:
    """Let `read` be asked once for each short text: those of an export are alike but for the size of the image."""
    known = lru_cache(maxsize=1024)(read)
    return lambda text: known(text) if len(text) <= _MAX_REMEMBERED else read(text)


def significant_bits(directories: list[Directory], name: str) -> list[int]:
    """Return the significant bits of a value for each directory: all that are stored where nothing is stated.

    What the description of a page states holds for that page; what the first such description states holds for the
    pages that state nothing. Raises ImageError where it states several depths and not which page has which.
    """
    texts = dict.fromkeys(text for directory in directories for text in directory.descriptions)
    stating = {text: _of_one_series(text) for text in texts if b"SignificantBits" in text}
    common: list[int | None] | None = None
    depths = list[int]()
    for page, directory in enumerate(directories):
        bits = next((own for text in directory.descriptions if (own := stating.get(text))), None)
        if bits is None:
            common = common or _by_page(next(iter(stating), b""), len(directories))
            bits = common[page]
        if bits is None:
            raise ImageError(
                "bit_depth",
                f"{name}: its description states several bit depths, but not that of page {page}; "
                "export the images of each depth into files of their own",
            )
        depths.append(min(bits, directory.bits))
    return depths


@_remembered
def announced_pages(text: bytes) -> int:
    """Return how many pages OME-XML says that its file has, 0 where it does not say."""
    if b"TiffData" not in text:
        return 0
    return max((first + count for first, count in _planes(text, _uuid(text), 0)), default=0)


def _uuid(text: bytes) -> bytes | None:
    """Return what OME-XML calls the file that it is in."""
    root = _ROOT.search(text)
    uuid = _UUID.search(root[1]) if root else None
    return uuid[1] if uuid else None


@_remembered
def _of_one_series(text: bytes) -> int | None:
    """Return what the description of a page states of it, None where it states nothing or describes several series."""
    match = _SIGNIFICANT_BITS.search(text)
    return int(match[1]) if match and len(_SERIES.findall(text)) <= 1 else None


def _by_page(text: bytes, pages: int) -> list[int | None]:
    """Return the significant bits of each page, None where the OME-XML `text` leaves it open or contradicts itself."""
    starts = [match.start() for match in _SERIES.finditer(text)] or [0]
    series = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    stated = [int(match[1]) if (match := _SIGNIFICANT_BITS.search(part)) else _ALL for part in series]
    if len(set(stated)) == 1:
        return [stated[0]] * pages
    depths: list[int | None] = [None] * pages
    file, described = _uuid(text), 0
    for bits, part in zip(stated, series, strict=True):
        for first, count in _planes(part, file, pages):
            covered = range(first, min(first + count, pages))
            depths[first : first + count] = [bits] * len(covered)
            described += len(covered)
            if described > pages:  # some page twice
                return [None] * pages
    return depths


def _planes(text: bytes, file: bytes | None, default: int) -> Iterator[tuple[int, int]]:
    """Yield the first page and the number of pages of each part of a series that is in the file whose UUID is `file`.

    `default` is the number where the part leaves it open.
    """
    for planes in _PLANES.finditer(text):
        if planes[2] and planes[2].strip() != file:
            continue  # in another file of the set
        numbers = {key: int(value) for key, value in _NUMBER.findall(planes[1])}
        yield numbers.get(b"IFD", 0), numbers.get(b"PlaneCount", 1 if b"IFD" in numbers else default)
