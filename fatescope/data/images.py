"""Decode files into the pixels of cells, for training and serving alike.

Headers are read before anything is decoded, so that refusing an image that is too large costs nothing.
"""

from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import cast

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.data import instruments
from fatescope.data.crops import MIN_SIDE, Pixels
from fatescope.data.formats import Format, Header, pillow, png, tiff, upright
from fatescope.errors import ImageError

__all__ = [
    "Header",
    "check_header",
    "decode",
    "decode_pages",
    "is_plain",
    "join_pages",
    "read_headers",
]

_SIGNATURE = 16
"""Bytes that tell the formats apart."""
_FORMATS: tuple[Format, ...] = (tiff, png, pillow)
_EXPECTED = "PNG, BMP, JPEG or TIFF of 8 to 16 bit"


def decode(raw: bytes, name: str, max_pixels: int) -> list[tuple[Header, Pixels]]:
    """Decode every page of one file into (header, (H, W) uint8 or uint16 pixels).

    Colour files whose channels are all equal count as grey, with an alpha channel too where nothing is transparent.
    Palettes and orientations are applied, and pictures in which zero is white are inverted.
    `name` is only for messages.
    Raises ImageError for anything that is not a grey image of 8 to 16 bits with sides from MIN_SIDE px and at most
    `max_pixels` px per page, without decoding where its header already rules it out.
    """
    headers = read_headers(raw, name)
    for header in headers:
        check_header(header, name, max_pixels)
    pages = []
    for page in decode_pages(raw, headers, name, max_pixels):
        if isinstance(page, ImageError):
            raise page
        pages.append(page)
    return pages


def decode_pages(
    raw: bytes | mmap, headers: list[Header], name: str, max_pixels: int
) -> Iterator[tuple[Header, Pixels] | ImageError]:
    """Yield the pages of a file whose `headers` were read, each decoded or as the reason why it is refused.

    A bad page does not cost the others. `decode` lists what is refused. The mapped copy of a file is changed.
    """
    decoder = _format_of(bytes(raw[:_SIGNATURE]), name)
    # Pages that are decoded in parts come in a mapped file, which nobody copies for each part.
    source = raw if isinstance(raw, mmap) else bytearray(raw)
    for header in headers:
        try:
            check_header(header, name, max_pixels)
            yield header, _as_grey(decoder.decode_page(source, header, name), header, name)
        except ImageError as error:
            yield error


def read_headers(raw: bytes, name: str) -> list[Header]:
    """Return the header of each page without decoding pixels; raises ImageError where there is none.

    Thumbnails and masks are no pages.
    """
    if not raw:
        raise ImageError("empty", f"{name}: the file is empty; export or upload it again")
    try:
        return _format_of(raw, name).read_headers(raw, name)
    except ImageError as error:
        instrument = instruments.explain(name, raw)
        if instrument is None:
            raise
        raise ImageError("not_an_image", f"{name}: {instrument}") from error


def is_plain(raw: bytes, headers: Sequence[Header]) -> bool:
    """Return whether the pages of a file with these `headers` are decoded by NumPy alone, and by no library in C."""
    decoder = _format_of(raw, "")
    return all(map(decoder.is_plain, headers))


def is_image(start: bytes) -> bool:
    """Return whether a file with these first 8 bytes is of a format that is read here."""
    return any(module.matches(start) for module in _FORMATS)


def _format_of(raw: bytes, name: str) -> Format:
    for module in _FORMATS:
        if module.matches(raw):
            return module
    if raw.startswith(b"PK\x03\x04"):
        raise ImageError(
            "not_an_image", f"{name}: a zip, where one image was expected; send it to /classify_batch, or unpack it"
        )
    raise ImageError("not_an_image", f"{name}: not an image (starts with {raw[:8]!r}); expected {_EXPECTED}")


def join_pages(
    channels: Sequence[list[tuple[Header, Pixels]]], what: Sequence[str], name: str
) -> list[tuple[Header, Pixels]]:
    """Return the pages of an object with all of its channels, as (C, H, W); those of one channel as they are.

    `channels` has the decoded pages of the file of each, `what` their names and `name` that of the object, for
    messages. Raises ImageError where they differ in number, size or bit depth, and so are not of one object.
    """
    if len(channels) == 1:
        return channels[0]
    first = channels[0]
    for pages, channel in zip(channels[1:], what[1:], strict=True):
        if _sizes(pages) != _sizes(first):
            raise ImageError(
                "channels_differ",
                f"{name}: channel {channel} is {_describe(pages)}, but channel {what[0]} is {_describe(first)}; "
                "export all channels of an object in one size and bit depth",
            )
    return [(header, np.stack([pages[i][1] for pages in channels])) for i, (header, _) in enumerate(first)]


def _sizes(pages: list[tuple[Header, Pixels]]) -> list[tuple[object, ...]]:
    return [(pixels.shape, header.bit_depth, pixels.dtype) for header, pixels in pages]


def _describe(pages: list[tuple[Header, Pixels]]) -> str:
    header, pixels = pages[0]
    size = f"{pixels.shape[0]}x{pixels.shape[1]} px (height x width) of {header.bit_depth} bits"
    return size if len(pages) == 1 else f"{len(pages)} pages, the first of {size}"


def check_header(header: Header, name: str, max_pixels: int) -> None:
    """Raise ImageError where a header announces what is not read as a cell."""
    size = f"{header.height}x{header.width} px (height x width)"
    if min(header.height, header.width) < MIN_SIDE:
        raise ImageError(
            "too_small", f"{name}: {size}, but a cell needs {MIN_SIDE} px on each side; export whole crops"
        )
    if header.height * header.width > max_pixels:
        raise ImageError(
            "too_large", f"{name}: {size}, but an image may have at most {max_pixels:,} px; export one cell per file"
        )
    if header.samples not in (1, 2, 3, 4):
        raise ImageError(
            "channels",
            f"{name}: {header.samples} channels where 1 was expected; export one channel per file",
        )
    if not 8 <= header.bit_depth <= 16:
        raise ImageError(
            "bit_depth", f"{name}: {plural.count(header.bit_depth, 'bit')} per pixel; expected {_EXPECTED}"
        )


def _as_grey(page: npt.NDArray[np.generic], header: Header, name: str) -> Pixels:
    if page.ndim == 3 and page.shape[-1] in (2, 3, 4):
        colours = page[..., :1] if page.shape[-1] == 2 else page[..., :3]
        if (colours[..., :1] != colours).any():
            raise ImageError(
                "channels",
                f"{name}: {page.shape[-1]} different channels (a colour image) where 1 was expected; "
                "export one channel per file",
            )
        if page.shape[-1] != colours.shape[-1] and not _is_opaque(page[..., -1], header):
            raise ImageError(
                "channels",
                f"{name}: a second or fourth channel that differs, or pixels that are transparent; "
                "export one channel per file, without transparency",
            )
        page = np.ascontiguousarray(page[..., 0])
    page = upright(page, header.orientation)
    if page.shape != (header.height, header.width):
        raise ImageError(
            "channels", f"{name}: decodes to shape {page.shape}, not to one grey image; export it as greyscale"
        )
    if page.dtype in (np.uint8, np.uint16):
        return cast("Pixels", page)
    raise ImageError("bit_depth", f"{name}: pixels of type {page.dtype}; expected unsigned integers of 8 to 16 bits")


def _is_opaque(alpha: npt.NDArray[np.generic], header: Header) -> bool:
    """Return whether an alpha channel is at its maximum everywhere, and so says nothing."""
    if alpha.dtype not in (np.uint8, np.uint16):
        return False
    opaque = ((1 << header.bit_depth) - 1, (1 << 8 * alpha.itemsize) - 1)
    return any(bool((alpha == value).all()) for value in opaque)
