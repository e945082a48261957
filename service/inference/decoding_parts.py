"""Parts of files that a process decodes together, and what its results mean."""

import logging
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fatescope.data import images
from fatescope.data.crops import Pixels
from fatescope.data.images import Header
from fatescope.data.native.objects import Place, StoredObject
from fatescope.errors import ImageError
from fatescope.guarded_pool import Fatal
from fatescope.inference.classification import MAX_PIXELS

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

Page = tuple[Header, Pixels] | ImageError
Found = tuple[Place, StoredObject | ImageError]
"""An object of a native file as it was found, or the reason why it was not."""
AHEAD_FILES = 512
"""Files that are read to send some of them to a process together."""
AHEAD_BYTES = 4_000_000
"""Of these files together, about."""
_IMAGES, _PIXELS = 128, 4 * MAX_PIXELS
"""Images that are decoded together, so that no more are held in memory."""
_SENT_BYTES = 4_000_000
"""A larger file is lent to the process as a temporary one."""


def decode_pages(source: bytes | Path, headers: Sequence[Header], name: str) -> list[Pixels | ImageError]:
    """Return the pages of a file or, if given its path, of a copy of it; each decoded or as the reason why not."""
    if isinstance(source, bytes):
        return [_pixels(page) for page in images.decode_pages(source, list(headers), name, MAX_PIXELS)]
    with source.open("r+b") as file:
        # Nobody writes to it, but libraries ask for a buffer that they could write to; a private one would count as
        # memory of the process, which is limited.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
    return [_pixels(page) for page in images.decode_pages(mapped, list(headers), name, MAX_PIXELS)]


def _pixels(page: Page) -> Pixels | ImageError:
    return page if isinstance(page, ImageError) else page[1]


def together(found: Iterator[Found]) -> Iterator[list[Found]]:
    """Yield objects in lists of those that are decoded together; also those before an error."""
    objects, pixels = list[Found](), 0
    try:
        for place, stored in found:
            objects.append((place, stored))
            pixels += stored.image.height * stored.image.width if isinstance(stored, StoredObject) else 0
            if is_full(len(objects), pixels):
                yield objects
                objects, pixels = [], 0
    except Exception:
        if objects:
            yield objects
        raise
    if objects:
        yield objects


def is_full(count: int, pixels: int) -> bool:
    """Return whether so many images, which announce so many px together, are enough for a process."""
    return count >= _IMAGES or pixels >= _PIXELS


def is_sent(raw: bytes) -> bool:
    """Return whether a process is sent a file, not lent a temporary one."""
    return len(raw) <= _SENT_BYTES


def count(header: Header) -> int:
    """Return how many pixels of a page are decoded: none of one that announces too many, which counts like the most."""
    return min(header.height * header.width, MAX_PIXELS)


def ranges(headers: list[Header]) -> Iterator[list[Header]]:
    """Yield the headers in parts that are decoded together."""
    part, pixels = list[Header](), 0
    for header in headers:
        part.append(header)
        pixels += count(header)
        if is_full(len(part), pixels):
            yield part
            part, pixels = [], 0
    if part:
        yield part


@contextmanager
def lent(raw: bytes, ranges: int) -> Iterator[bytes | Path]:
    """Yield what a process is sent of a file: its bytes or, where these are many, a temporary file with them."""
    if ranges == 1 and is_sent(raw):
        yield raw
        return
    with tempfile.TemporaryDirectory(prefix="fatescope-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(raw)
        yield path


def first(results: list[list[Pixels | ImageError] | Fatal], names: Sequence[str]) -> list[Pixels | ImageError]:
    """Return the only page of each result."""
    return [
        refuse(name, pages) if isinstance(pages, Fatal) else pages[0]
        for name, pages in zip(names, results, strict=True)
    ]


def refuse(name: str, fatal: Fatal) -> ImageError:
    """Return why a file is refused that ended or stopped a process, and log it."""
    if fatal.hung:
        error = ImageError(
            "too_slow", f"{name}: decoding it did not come to an end, through a damaged file; copy or save it again"
        )
    else:
        error = ImageError(
            "decoder",
            f"{name}: decoding it ended the process that did, through a damaged file or for want of memory; copy or "
            "save it again",
        )
    log.warning("%s", error)
    return error


def join(headers: Sequence[Header], pages: Sequence[Pixels | ImageError]) -> Iterator[Page]:
    """Yield the pages with their headers."""
    for header, page in zip(headers, pages, strict=True):
        yield page if isinstance(page, ImageError) else (header, page)
