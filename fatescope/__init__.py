"""Predict the fate of cells from label-free images: the library that pipelines, service and monitoring share.

>>> import fatescope
>>> bundle = fatescope.load("artifacts/binary/bundle")
>>> prediction = bundle.predict(pixels)  # (B, H, W) raw pixels on the canvas of the model
>>> prediction.probabilities  # (B, K)
>>> bundle.classify("o_5d1_3_Ch1.ome.tif")  # a file, or crops of any size: class names, conformal sets, verdicts
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fatescope.inference.bundle import Bundle

__all__ = ["load"]


def load(path: str | Path, threads: int = 0) -> "Bundle":
    """Load the model in the bundle folder `path`, to run on `threads` CPU threads; 0 uses every core.

    It checks that no file is damaged, and not who made the model: what comes from others is verified as it is fetched,
    by `fatescope models pull`. Raises BundleError for a folder that is not a bundle, is damaged, or was written in a
    newer format.
    """
    from fatescope.inference import bundle  # noqa: PLC0415  so that `import fatescope` costs nothing

    return bundle.load(Path(path), threads)
