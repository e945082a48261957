"""The channels of a cell in one picture."""

from typing import Any

import numpy as np
import numpy.typing as npt


def beside_each_other(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the (C, H, W) channels of a cell as one (H, C * W) picture, each from its darkest to its brightest pixel.

    (H, W) pixels of one channel stay as they are.
    """
    if pixels.ndim == 2:
        return pixels
    low, high = pixels.min(axis=(1, 2), keepdims=True), pixels.max(axis=(1, 2), keepdims=True)
    scaled = (pixels - low.astype(float)) / np.maximum(high - low.astype(float), 1)
    return np.concatenate(list(scaled), axis=1)
