"""Grey levels from the values that a TIFF stores: palettes, and pictures in which zero is white.

Adobe TIFF 6.0, PhotometricInterpretation and ColorMap.
"""

from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.data.formats import tiff_directory as tags
from fatescope.data.formats.tiff_directory import Directory
from fatescope.errors import ImageError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_OTHER = {5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a colour filter array", 34892: "linear raw"}


def has_palette(directory: Directory) -> bool:
    """Return whether the values of a page are indices into a palette."""
    return directory.numbers.get(tags.PHOTOMETRIC) == PALETTE


def read_palette(raw: bytes | bytearray | mmap, directory: Directory) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the (n, 3) colours of a palette page, 8 or 16 bit as they were meant.

    A palette has 16 bits. Where each colour is an 8-bit one, scaled to 16 in one of the usual ways or not at all,
    the 8 bits are returned. Raises ValueError for a page whose palette does not fit its pixels.
    """
    entry = directory.entries.get(tags.PALETTE, tags.Entry(3, 0, 0))
    fits = 1 <= directory.bits <= 16 and entry.total == 3 << directory.bits and directory.samples == 1
    if not fits or entry.kind != 3:
        values, bits = plural.count(entry.total, "value"), plural.count(directory.bits, "bit")
        raise ValueError(f"a palette of {values} does not fit pixels of {bits}")
    stored = np.frombuffer(raw, f"{directory.layout.order}u2", entry.total, entry.start)
    palette = stored.astype(np.uint16).reshape(3, -1).T
    if not (palette % 257).any():
        return (palette // 257).astype(np.uint8)
    if not (palette & 0xFF).any():
        return (palette >> 8).astype(np.uint8)
    return palette.astype(np.uint8) if palette.max() < 256 else palette


def check_levels(directory: Directory, bit_depth: int, name: str) -> None:
    """Raise ImageError for a page whose values are not grey levels or cannot be told to be."""
    photometric = directory.numbers.get(tags.PHOTOMETRIC)
    if photometric not in (None, WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR):
        kind = _OTHER.get(photometric, "neither grey nor RGB")
        raise ImageError(
            "channels",
            f"{name}: PhotometricInterpretation {photometric} ({kind}) where grey levels were expected; "
            "export it as greyscale",
        )
    if photometric == WHITE_IS_ZERO and bit_depth != directory.bits:
        significant = plural.count(bit_depth, "significant bit")
        raise ImageError(
            "bit_depth",
            f"{name}: white is zero, but with {significant} in {directory.bits} it cannot be told which value is "
            "black; export it with black as zero",
        )
    if directory.numbers.get(tags.DEPTH, 1) != 1:
        raise ImageError(
            "pages",
            f"{name}: a volume of {directory.numbers[tags.DEPTH]} slices in one page; export one page per slice",
        )


def to_levels(
    page: npt.NDArray[Any], raw: bytes | bytearray | mmap, directory: Directory, name: str
) -> npt.NDArray[Any]:
    """Return the grey levels for the stored values of a page, (H, W) or (H, W, C), which are changed.

    Raises ImageError for colours of a palette.
    """
    if has_palette(directory):
        colours = read_palette(raw, directory)[page.astype(np.uint16)]
        if (colours[..., :1] != colours).any():
            raise ImageError(
                "channels",
                f"{name}: its palette has colours, not grey levels; export it as greyscale, without a palette",
            )
        return np.ascontiguousarray(colours[..., 0])
    if directory.numbers.get(tags.PHOTOMETRIC) == WHITE_IS_ZERO and page.dtype.kind == "u":
        grey = page if page.ndim == 2 else page[..., 0]
        np.subtract((1 << directory.bits) - 1, grey, out=grey)
    return page
