"""Pictures of cells for a vision-language model: 8 bits, square, with the sides of the longer side of the canvas.

A pixel is the deviation from the background level divided by its contrast (squared L2 norm over L1 norm, as in the
networks' normalisation `contrast`), GREYS grey levels a unit around the grey level MIDDLE. Illumination and gain are
gone from them, and with them how dark a cell is.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.data.crops import background
from fatescope.networks.vision_tower import GREYS, MIDDLE


def draw(pixels: npt.NDArray[np.unsignedinteger]) -> Image.Image:
    """Return (H, W) raw pixels of a cell on its canvas as a picture; of (C, H, W), those of the first channel."""
    first = pixels if pixels.ndim == 2 else pixels[0]
    deviation = first.astype(np.float32) - np.float32(background(first))
    magnitude = np.abs(deviation)
    contrast = max(float((deviation**2).sum() / max(float(magnitude.sum()), 1e-6)), 1e-6)
    grey = np.clip(np.rint(MIDDLE + GREYS * deviation / contrast), 0, 255).astype(np.uint8)
    side = max(grey.shape)
    picture = np.full((side, side), MIDDLE, np.uint8)
    top, left = (side - grey.shape[0]) // 2, (side - grey.shape[1]) // 2
    picture[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return Image.fromarray(picture)
