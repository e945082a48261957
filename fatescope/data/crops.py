"""Crops of cells, once they are decoded: the background level at their border, and their place on a canvas."""

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fatescope.errors import ImageError

Pixels = npt.NDArray[np.unsignedinteger]

MIN_SIDE = 8
"""The shortest side of a crop, px; normalisation needs a border around a cell."""
FRAME = 2
"""Width in px of the border that counts as background."""


def check_crop(pixels: npt.NDArray[np.generic], name: str, channels: tuple[int, ...] = ()) -> Pixels:
    """Return `pixels` if they are the crop of a cell, (*channels, H, W) uint8 or uint16, else raise ImageError."""
    if pixels.ndim != len(channels) + 2 or pixels.shape[:-2] != channels:
        expected = ", ".join([*map(str, channels), "height", "width"])
        raise ImageError("channels", f"{name}: an array of shape {pixels.shape}; expected ({expected})")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("bit_depth", f"{name}: pixels of type {pixels.dtype}; expected raw counts as uint8 or uint16")
    height, width = pixels.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            "too_small", f"{name}: {height}x{width} px (height x width); a cell needs {MIN_SIDE} px on each side"
        )
    return cast("Pixels", pixels)


def border(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of the outermost FRAME px of (..., H, W) pixels as (..., n)."""
    lead = pixels.shape[:-2]
    inner = pixels[..., FRAME:-FRAME, :]
    parts = (pixels[..., :FRAME, :], pixels[..., -FRAME:, :], inner[..., :FRAME], inner[..., -FRAME:])
    return np.concatenate([part.reshape(*lead, -1) for part in parts], axis=-1)


def background(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the median of the border of (..., H, W) pixels, counts."""
    return median(border(pixels))


def median(frame: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the median of a (..., n) border, n even: the value of np.median in a twentieth of its time."""
    half = frame.shape[-1] // 2
    ordered = np.sort(frame, axis=-1)
    level: npt.NDArray[np.float64] = (ordered[..., half - 1].astype(np.float64) + ordered[..., half]) / 2
    return level


def stacked(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (B, C, H, W) pixels; cells of one channel are stored without that axis, as (B, H, W)."""
    return pixels[:, None] if pixels.ndim == 3 else pixels


def center(pixels: Pixels, canvas: tuple[int, int], name: str) -> npt.NDArray[np.uint16]:
    """Place (H, W) pixels in the middle of a `canvas` (height, width), padded with their own background level.

    Of (C, H, W) pixels each channel is padded with its own, and the result is (C, *canvas).
    Raises ImageError for a cell that is larger than the canvas: a part of it is another image than the whole.
    """
    height, width = pixels.shape[-2:]
    if height > canvas[0] or width > canvas[1]:
        raise ImageError(
            "too_large",
            f"{name}: {height}x{width} px do not fit the canvas of {canvas[0]}x{canvas[1]} px (height x width); "
            "export smaller crops, or retrain with a larger ingest.canvas",
        )
    top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    placed = np.empty((*pixels.shape[:-2], *canvas), np.uint16)
    placed[...] = background(pixels).astype(np.uint16)[..., None, None]
    placed[..., top : top + height, left : left + width] = pixels
    return placed


def center_alike(pixels: Pixels, target: npt.NDArray[np.uint16], rows: Sequence[int]) -> None:
    """Write what `center` does of each of (B, H, W) pixels into the B `rows` of (N, *canvas) pixels, which they fit.

    Likewise of (B, C, H, W) pixels.
    """
    canvas, (height, width) = target.shape[-2:], pixels.shape[-2:]
    top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    levels = background(pixels).astype(np.uint16)[..., None, None]
    for row, level, cell in zip(rows, levels, pixels, strict=True):
        target[row] = level
        target[row, ..., top : top + height, left : left + width] = cell


def cut(pixels: Pixels, canvas: tuple[int, int]) -> Pixels:
    """Return the central part of (…, H, W) pixels that fits a `canvas` (height, width); all of one that is smaller."""
    for axis, side in zip((-2, -1), canvas, strict=True):
        spare = pixels.shape[axis] - side
        if spare > 0:
            pixels = np.take(pixels, range(spare // 2, spare // 2 + side), axis=axis)
    return pixels


def pixel_hash(pixels: Pixels) -> int:
    """Return 64 bits that are equal for equal pixels, whatever the file around them holds."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8, key=str(pixels.shape).encode())
    return int.from_bytes(digest.digest(), "little", signed=True)
