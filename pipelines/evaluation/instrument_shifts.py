"""Test cells as another instrument would have taken them: what a model of one instrument loses on the next.

Each shift changes native crops by a plain operation on the image, all cells by the same amount, and is independent of
the randomisation that networks may be trained with (`pipelines.training.instrument_augmentation`). The order is that
of the light: what the lens does is seen through the noise of the camera.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fatescope.data.crops import border, center
from fatescope.data.dataset import CellDataset, crop

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint16]
Shift = Callable[[Floats, np.random.Generator], Floats]

BLUR_PX = 1.2
"""Standard deviation of the blur of a focus that is off."""
NOISE, GAIN = 0.02, 0.02
"""Standard deviations of the read noise, and of the shot noise of a higher gain, as shares of the brightness."""
LAMP, GRADIENT = 0.75, 0.08
"""Level of the lamp relative to the usual one, and how far the light rises to one side and falls to the other."""
PIXEL_SIZE = "pixel size"
PIXEL = 1.25
"""Size of the pixels relative to the usual ones."""


def defocus(crop: Floats, _rng: np.random.Generator) -> Floats:
    """Blur a crop."""
    blurred: Floats = ndimage.gaussian_filter(crop, BLUR_PX)
    return blurred


def add_read_noise(crop: Floats, rng: np.random.Generator) -> Floats:
    """Add noise of one strength everywhere."""
    return crop + NOISE * _brightness(crop) * rng.standard_normal(crop.shape)


def raise_gain(crop: Floats, rng: np.random.Generator) -> Floats:
    """Show fewer photons by the same counts: the variance of their noise grows with the counts."""
    brightness = _brightness(crop)
    spread = GAIN * np.sqrt(np.maximum(crop, 0) * brightness)
    return crop + spread * rng.standard_normal(crop.shape)


def change_illumination(crop: Floats, rng: np.random.Generator) -> Floats:
    """Dim the lamp, and let its light fall off in a direction that is drawn for the cell."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = (np.linspace(-1, 1, side) for side in crop.shape)
    field: Floats = LAMP * (1 + GRADIENT * (np.sin(angle) * rows[:, None] + np.cos(angle) * columns))
    return crop * field


def enlarge_pixels(crop: Floats, _rng: np.random.Generator) -> Floats:
    """Take a crop with larger pixels, of which it has fewer."""
    taken: Floats = ndimage.zoom(crop, 1 / PIXEL, order=1, mode="nearest", grid_mode=True)
    return taken


SHIFTS: dict[str, Shift] = {
    "focus": defocus,
    "noise": add_read_noise,
    "gain": raise_gain,
    "illumination": change_illumination,
    PIXEL_SIZE: enlarge_pixels,
}
"""What differs → how it changes a (H, W) crop; some draw random numbers."""


def shift_cells(source: CellDataset, rows: npt.NDArray[np.int64], name: str, seed: int) -> Pixels:
    """Return the pixels of the cells in `rows`, on their canvas, as an instrument with the shift `name` takes them.

    Of several channels each is shifted alike.
    """
    sizes, shifted = source.take(rows, ["cell_id", "height", "width"]), []
    for row, cell, height, width in zip(rows, sizes["cell_id"], sizes["height"], sizes["width"], strict=True):
        # Of every cell its own, so that it does not depend on which others are shifted.
        rng = np.random.default_rng([seed, row])
        taken = shift_crop(crop(source.pixels[row], height, width), name, rng)
        shifted.append(center(taken, source.canvas, cell))
    return np.stack(shifted)


def shift_crop(pixels: Pixels, name: str, rng: np.random.Generator) -> Pixels:
    """Return a (H, W) or (C, H, W) crop under the shift `name`, rounded to counts."""
    channels = pixels.reshape(-1, *pixels.shape[-2:]).astype(float)
    taken = np.stack([SHIFTS[name](channel, rng) for channel in channels])
    counts = np.clip(np.rint(taken), 0, np.iinfo(np.uint16).max).astype(np.uint16)
    return counts.reshape(*pixels.shape[:-2], *counts.shape[-2:])


def _brightness(crop: Floats) -> float:
    """Return what counts are relative to: the background, or the cell where that is black."""
    deviation = crop - np.median(border(crop))
    magnitude = np.abs(deviation)
    return float(np.median(border(crop)) + (deviation**2).sum() / max(magnitude.sum(), 1e-9))
