"""Normalise and resize raw pixels, as part of a network and so of the exported graph."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config.names import BRIGHTFIELD, DARKFIELD, ChannelKind
from fatescope.data.crops import FRAME, background, stacked

SCALE = 8.0
"""Scales the share of light that a cell absorbs, often an eighth, to the magnitude that a CNN expects."""

LEVELS = 1000
"""Cells from whose backgrounds the common level is estimated."""


BRIGHTFIELD_ALONE: Sequence[ChannelKind] = (BRIGHTFIELD,)


def normalise(
    pixels: Tensor,
    how: str,
    level: Tensor | None = None,
    kinds: Sequence[ChannelKind] = BRIGHTFIELD_ALONE,
    unit: Tensor | None = None,
) -> Tensor:
    """Remove illumination from (B, C, H, W) raw pixels, of channels of the `kinds`, each in the way that fits it.

    In brightfield `normalise_brightfield` does it as `how` says; `level` is (C, 1, 1) or one for all. In darkfield
    there is no lamp to divide by: what a cell scatters is added to a background near the black level, and spans
    decades. The background, the median of the border, is subtracted, and the inverse hyperbolic sine of the rest, in
    units of the (C, 1, 1) `unit` of counts, is what remains, as cytometrists draw scatter. The unit is one for all
    cells, because how much a cell scatters is what the channel tells; so the power of the laser stays in the images,
    for the audit to find.
    """
    if DARKFIELD not in kinds:
        return normalise_brightfield(pixels, how, level)
    assert unit is not None, "darkfield needs a unit"
    channels = []
    for i, kind in enumerate(kinds):
        channel = pixels[:, i : i + 1]
        if kind == DARKFIELD:
            channels.append(torch.asinh((channel - border_median(channel)) / unit[i]))
        else:
            channels.append(normalise_brightfield(channel, how, None if level is None else level[i]))
    return torch.cat(channels, dim=1)


def normalise_brightfield(pixels: Tensor, how: str, level: Tensor | None = None) -> Tensor:
    """Remove illumination from (B, C, H, W) raw pixels, image by image; or keep it, with `fixed`.

    The background level is the median of the border. `contrast` divides the deviation from it by the magnitude of that
    deviation (squared L2 norm over L1 norm, which padding does not change): this removes illumination, gain and black
    level, and with them how dark a cell is. `background` divides by the background level: what remains is the share of
    light that the cell absorbs, which needs a camera whose black level is near zero. A blank image becomes zeros.

    `fixed` is `background` with one `level` (counts) for all images. The halo of a cell that is out of focus reaches
    the border and raises its background level by more than the cell absorbs; a fixed level does not follow it. It
    keeps illumination too: use it where the audit finds no shortcut in the background.
    """
    if how == "fixed":
        assert level is not None, "fixed needs a level"
        return (pixels - level) * (SCALE / level)
    background_level = border_median(pixels)
    deviation = pixels - background_level
    if how == "background":
        return deviation * (SCALE / background_level.clamp_min(1.0))
    return deviation / estimate_contrast(deviation).clamp_min(1e-6)


def common_level(pixels: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> Tensor:
    """Return the median background of each channel, counts, of up to LEVELS of the `rows` of pixels, for `fixed`.

    It is (C, 1, 1), of one channel a scalar.
    """
    levels = torch.from_numpy(np.median(background(stacked(pixels[_sample(rows)])), axis=0)).float()
    return levels[0] if len(levels) == 1 else levels[:, None, None]


def common_unit(pixels: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> Tensor:
    """Return the unit of each channel, counts, of up to LEVELS of the `rows` of pixels, for darkfield.

    It is the median over cells of the contrast, squared L2 norm over L1 norm of the deviation from the background,
    which padding does not change; (C, 1, 1).
    """
    images = stacked(pixels[_sample(rows)]).astype(np.float32)
    deviation = np.abs(images - background(images)[..., None, None])
    contrast = (deviation**2).sum((2, 3)) / np.maximum(deviation.sum((2, 3)), 1e-6)
    return torch.from_numpy(np.maximum(np.median(contrast, axis=0), 1.0)).float()[:, None, None]


def _sample(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return rows[:: max(1, len(rows) // LEVELS)]


def widen(stored: Tensor) -> Tensor:
    """Return (B, C, H, W) float32 pixels of those that are stored as int16, (B, H, W) where they have one channel."""
    # PyTorch has few operations on uint16; the mask restores the values above 32,767.
    images = (stored.to(torch.int32) & 0xFFFF).float()
    return images[:, None] if images.ndim == 3 else images


def resize(images: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """Resize normalised (B, C, H, W) images to `size` (height, width): `stretch`, or `pad` with background (zero)."""
    height, width = images.shape[2:]
    scale = min(size[0] / height, size[1] / width)
    inner = size if how == "stretch" else (round(height * scale), round(width * scale))
    if inner != (height, width):
        images = functional.interpolate(images, size=inner, mode="bilinear", align_corners=False)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    if inner != size:
        images = functional.pad(images, (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top))
    return images


def estimate_contrast(deviation: Tensor) -> Tensor:
    """Return the squared L2 norm over the L1 norm of (B, C, H, W) deviations from the background, as (B, C, 1, 1)."""
    magnitude = deviation.abs().sum((2, 3), keepdim=True)
    return (deviation * deviation).sum((2, 3), keepdim=True) / magnitude.clamp_min(1e-6)


def border_median(pixels: Tensor) -> Tensor:
    """Return the median of the outer FRAME px of (B, C, H, W) images as (B, C, 1, 1)."""
    inner = pixels[:, :, FRAME:-FRAME, :]
    parts = (pixels[:, :, :FRAME, :], pixels[:, :, -FRAME:, :], inner[:, :, :, :FRAME], inner[:, :, :, -FRAME:])
    frame = torch.cat([part.flatten(2) for part in parts], dim=2)
    middle = frame.shape[2] // 2
    if torch.compiler.is_exporting():
        # ONNX has no operator for order statistics; sorting gives the same number.
        return frame.sort(dim=2).values[:, :, middle, None, None]
    return frame.kthvalue(middle + 1, dim=2).values[:, :, None, None]
