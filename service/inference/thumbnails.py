"""Cells as pictures for people, and as files to try the service with."""

import base64
import io

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.data.crops import Pixels

_OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels SignificantBits="{}"/></Image></OME>'
)
_IMAGE_DESCRIPTION = 270
"""The TIFF tag that holds OME-XML."""


def thumbnail(pixels: Pixels) -> str:
    """Return (H, W) pixels as an 8-bit PNG in base64, stretched to their own range."""
    low, high = np.quantile(pixels, (0.002, 0.998))
    scaled = np.clip((pixels - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)
    return base64.b64encode(imagecodecs.png_encode(scaled, level=1)).decode()


def tiff(pixels: npt.NDArray[np.uint16], bit_depth: int) -> bytes:
    """Return (H, W) pixels as a TIFF that states its bit depth, as an instrument writes it."""
    buffer = io.BytesIO()
    stored = pixels.astype(np.uint8) if bit_depth <= 8 else pixels
    Image.fromarray(stored).save(buffer, "TIFF", tiffinfo={_IMAGE_DESCRIPTION: _OME.format(bit_depth)})
    return buffer.getvalue()
