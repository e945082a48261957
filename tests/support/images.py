"""Made-up cells, and the files that they come in."""

import io

import numpy as np
import tifffile


def tiff(pixels, **kwargs):
    """Return the bytes of a TIFF file."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **kwargs)
    return buffer.getvalue()


def draw_cell(rng, height=45, width=60, radius=12.0, level=700):
    """Return (height, width) uint16: a dark disc on a noisy background, nothing like a real cell but enough to find."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < radius
    return np.clip(rng.normal(level, 8, (height, width)) - 200 * inside, 0, 4095).astype(np.uint16)


def typical(seed, **how):
    """Return (45, 60) pixels of a cell of the kind that the bundles of the tests were made with."""
    return draw_cell(np.random.default_rng(seed), radius=6 + seed % 12, **how)
