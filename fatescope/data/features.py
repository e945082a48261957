"""Features of an image, which ingest stores, the audit tests and drift detection monitors. NumPy only.

`acquisition` describes illumination, gain, focus and crop; `cell` describes the cell, and is the baseline of the CNN.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescope.data.crops import Pixels, background, border, median

Floats = npt.NDArray[np.float32]

ACQUISITION = (
    "background",  # median of the border, counts
    "background_spread",  # standard deviation of the border, counts
    "mean",  # counts
    "spread",  # standard deviation, counts
    "darkest",  # counts
    "brightest",  # counts
    "focus",  # energy of the Laplacian over the variance, dimensionless; falls with blur
    "saturation",  # share of pixels at the top of the bit depth, 0 to 1
)


def acquisition_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features of ACQUISITION for each of the `channels` that a model gets of a cell, in order.

    Those of the first channel have no more than their name, those of others end in `_` and the channel: `focus_6`.
    """
    others = (f"{name}_{channel}" for channel in channels[1:] for name in ACQUISITION)
    return (*ACQUISITION, *others)


def acquisition_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Return which of the `columns` of a table of cells are features of the acquisition, in whatever channel."""
    prefixes = tuple(f"{name}_" for name in ACQUISITION)
    return tuple(name for name in columns if name in ACQUISITION or name.startswith(prefixes))


def further_channels(columns: Iterable[str]) -> list[str]:
    """Return the channels after the first whose features are among the `columns` of a table of cells."""
    return [name.removeprefix("focus_") for name in columns if name.startswith("focus_")]


RINGS = 6
"""Concentric rings of the radial profile."""
_CHUNK = 64
"""Cells that are processed together, few enough for the cache of a core."""
QUANTILES = (0.005, 0.02, 0.1, 0.5, 0.9, 0.98, 0.995)
CELL = (
    "area",  # share of pixels whose deviation is more than a quarter of the contrast, 0 to 1
    "elongation",  # ratio of the principal axes of the deviation, from 1
    "skewness",  # of the deviation from the background
    "edges",  # mean gradient over mean deviation
    "grain",  # energy of the Laplacian over energy of the gradient
    *(f"quantile_{q:g}" for q in QUANTILES),  # of the deviation, in units of the contrast
    "spot",  # the largest deviation after a blur, in units of the contrast: a nucleus, a granule, a parasite
    *(f"ring_{i}" for i in range(RINGS)),  # mean deviation by distance from the centre, in units of its mean magnitude
    *(f"ring_spread_{i}" for i in range(RINGS)),  # its standard deviation in that ring, in the same units
)


def acquisition(pixels: Pixels, bit_depth: int) -> Floats:
    """Return (B, len(ACQUISITION)) features of (B, H, W) native crops of one size and bit depth.

    Of (B, C, H, W) crops, those of all channels stand beside each other, (B, C * len(ACQUISITION)).
    """
    if pixels.ndim == 4:
        return np.concatenate([acquisition(pixels[:, i], bit_depth) for i in range(pixels.shape[1])], axis=1)
    chunks = [_acquisition(pixels[i : i + _CHUNK], 2**bit_depth - 1) for i in range(0, len(pixels), _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros((0, len(ACQUISITION)), np.float32)


def _acquisition(pixels: Pixels, top: int) -> Floats:
    frame = border(pixels)
    level = median(frame)
    # Deviations from the background are small, so that single precision is enough for their squares.
    dev = np.subtract(pixels, level[:, None, None], dtype=np.float32)
    flat = dev.reshape(len(dev), -1)
    mean = np.einsum("bi->b", flat) / flat.shape[1]
    variance = np.maximum(np.einsum("bi,bi->b", flat, flat) / flat.shape[1] - mean**2, 0)
    laplacian = _laplacian(dev)
    energy = np.einsum("bij,bij->b", laplacian, laplacian) / laplacian[0].size
    brightest = pixels.max(axis=(1, 2))
    saturation = (pixels >= top).mean(axis=(1, 2)) if brightest.max() >= top else np.zeros(len(pixels))
    columns = (
        level,
        frame.std(axis=1, dtype=np.float32),
        level + mean,
        np.sqrt(variance),
        pixels.min(axis=(1, 2)),
        brightest,
        energy / np.maximum(variance, 1e-9),
        saturation,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def cell(pixels: Pixels) -> Floats:
    """Return (B, len(CELL)) features of (B, H, W) cells on one canvas.

    None changes with illumination or gain: all are ratios of deviations from the background.
    """
    images = pixels.astype(np.float32)
    dev = images - background(images)[:, None, None].astype(np.float32)
    size = np.abs(dev)
    total = np.maximum(size.sum((1, 2)), 1e-6)
    unit = total / dev[0].size
    squares = (dev**2).sum((1, 2))
    contrast = squares / total
    gradient = np.hypot(np.diff(dev, axis=1)[:, :, :-1], np.diff(dev, axis=2)[:, :-1, :])
    laplacian = _laplacian(dev)
    rings, ring_spreads = _radial(dev, unit)
    columns = (
        (size > contrast[:, None, None] / 4).mean((1, 2)),
        _elongation(size, total),
        (dev**3).mean((1, 2)) / np.maximum(squares / dev[0].size, 1e-9) ** 1.5,
        gradient.mean((1, 2)) / unit,
        (laplacian**2).mean((1, 2)) / np.maximum((gradient**2).mean((1, 2)), 1e-9),
        *np.quantile(dev.reshape(len(dev), -1), QUANTILES, axis=1) / np.maximum(contrast, 1e-6),
        _blur(size).max((1, 2)) / np.maximum(contrast, 1e-6),
        *rings,
        *ring_spreads,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _laplacian(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    count, height, width = images.shape
    # In a flat array neighbours are a fixed step apart, and one long addition is faster than many short ones.
    flat, size = images.reshape(count, -1), (height - 2) * width
    result = flat[:, :size] + flat[:, 2 * width :]
    inner = flat[:, width : width + size]
    result[:, 1:] += inner[:, :-1]
    result[:, :-1] += inner[:, 1:]
    result -= 4 * inner
    # The first and last column mix neighbouring rows.
    trimmed: npt.NDArray[Any] = result.reshape(count, height - 2, width)[:, :, 1:-1]
    return trimmed


def _blur(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mean over 3x3 px neighbourhoods."""
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    mean: npt.NDArray[Any] = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
    return mean


def _elongation(size: Floats, total: Floats) -> Floats:
    """Return the ratio of the principal axes of the mass distribution `size`, from its second moments."""
    y, x = np.mgrid[: size.shape[1], : size.shape[2]].astype(np.float32)
    my, mx = (size * y).sum((1, 2)) / total, (size * x).sum((1, 2)) / total
    yy = (size * y**2).sum((1, 2)) / total - my**2
    xx = (size * x**2).sum((1, 2)) / total - mx**2
    xy = (size * y * x).sum((1, 2)) / total - my * mx
    # The eigenvalues of the matrix of second moments.
    mean, difference = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    ratio: Floats = np.sqrt((mean + difference) / np.maximum(mean - difference, 1e-3))
    return ratio


def _radial(dev: Floats, unit: Floats) -> tuple[list[Floats], list[Floats]]:
    height, width = dev.shape[1:]
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    ring = np.minimum((radius / (min(height, width) / 2) * RINGS).astype(int), RINGS - 1)
    means, spreads = [], []
    for i in range(RINGS):
        values = dev[:, ring == i] / unit[:, None]
        means.append(values.mean(1))
        spreads.append(values.std(1))
    return means, spreads
