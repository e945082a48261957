"""Normalise and resize raw pixels, as part of a network and so of the exported graph."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fatescope.data.images import FRAME, background

SCALE = 8.0
"""Scales the share of light that a cell absorbs, often an eighth, to the magnitude that a CNN expects."""

LEVELS = 1000
"""Cells from whose backgrounds the common level is estimated."""


def normalise(pixels: Tensor, how: str, level: Tensor | None = None) -> Tensor:
    """Remove illumination from (B, 1, H, W) raw pixels, image by image; or keep it, with `fixed`.

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
    background_level = _border_median(pixels)
    deviation = pixels - background_level
    if how == "background":
        return deviation * (SCALE / background_level.clamp_min(1.0))
    magnitude = deviation.abs()
    contrast = (deviation * deviation).sum((2, 3), keepdim=True) / magnitude.sum((2, 3), keepdim=True).clamp_min(1e-6)
    return deviation / contrast.clamp_min(1e-6)


def common_level(pixels: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> float:
    """Return the median background, counts, of up to LEVELS of the `rows` of (N, H, W) pixels, for `fixed`."""
    sample = rows[:: max(1, len(rows) // LEVELS)]
    return float(np.median(background(pixels[sample])))


def resize(images: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """Resize normalised (B, 1, H, W) images to `size` (height, width): `stretch`, or `pad` with background (zero)."""
    height, width = images.shape[2:]
    scale = min(size[0] / height, size[1] / width)
    inner = size if how == "stretch" else (round(height * scale), round(width * scale))
    if inner != (height, width):
        images = functional.interpolate(images, size=inner, mode="bilinear", align_corners=False)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    if inner != size:
        images = functional.pad(images, (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top))
    return images


def _border_median(pixels: Tensor) -> Tensor:
    """Return the median of the outer FRAME px of (B, 1, H, W) images as (B, 1, 1, 1)."""
    inner = pixels[:, :, FRAME:-FRAME, :]
    parts = (pixels[:, :, :FRAME, :], pixels[:, :, -FRAME:, :], inner[:, :, :, :FRAME], inner[:, :, :, -FRAME:])
    frame = torch.cat([part.flatten(1) for part in parts], dim=1)
    middle = frame.shape[1] // 2
    if torch.compiler.is_exporting():
        # ONNX has no operator for order statistics; sorting gives the same number.
        return frame.sort(dim=1).values[:, middle, None, None, None]
    return frame.kthvalue(middle + 1, dim=1).values[:, None, None, None]
