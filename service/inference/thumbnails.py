"""Small pictures of cells for people to look at."""

import base64
import io

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.data.images import Pixels

_OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels SignificantBits="{}"/>'
)


def thumbnail(pixels: Pixels) -> str:
    """Return an 8-bit PNG of (H, W) pixels, stretched to their own range, base64."""
    low, high = np.quantile(pixels, (0.002, 0.998))
    scaled = np.clip((pixels - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)
    return base64.b64encode(imagecodecs.png_encode(scaled, level=1)).decode()


def tiff(pixels: npt.NDArray[np.uint16], bit_depth: int) -> bytes:
    """Return (H, W) pixels as a TIFF that says its bit depth, as an instrument would write it."""
    buffer = io.BytesIO()
    kept = pixels.astype(np.uint8) if bit_depth <= 8 else pixels
    described = {270: _OME.format(bit_depth) + "</Image></OME>"}
    Image.fromarray(kept).save(buffer, "TIFF", tiffinfo=described)
    return buffer.getvalue()
