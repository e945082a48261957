"""Run a bundle on cells of the table, a batch at a time."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from fatescope.data import images
from fatescope.data.dataset import CellDataset, crop
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import Assessment

BATCH = 256
"""Cells that the graph gets at a time."""


def assess(model: Bundle, source: CellDataset, rows: npt.NDArray[np.int64]) -> Assessment:
    """Return the assessment of the cells in `rows`, on the canvas of the model.

    Raises ImageError for a cell that is larger than that.
    """
    batches = []
    for start in tqdm(range(0, len(rows), BATCH), desc="predict", unit="batch", delay=1):
        chosen = rows[start : start + BATCH]
        pixels = recanvas(source.pixels[chosen], source.manifest.iloc[chosen], model.spec.canvas)
        batches.append(model.assess(model.predict(pixels)))
    return Assessment.concatenate(batches)


def recanvas(pixels: npt.NDArray[np.uint16], manifest: pd.DataFrame, canvas: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Return (B, H, W) cells on another canvas, as if they had been ingested on it.

    Raises ImageError for a cell that is larger than `canvas`.
    """
    if pixels.shape[1:] == canvas:
        return pixels
    sizes = zip(pixels, manifest["cell_id"], manifest["height"], manifest["width"], strict=True)
    return np.stack([images.center(crop(image, height, width), canvas, name) for image, name, height, width in sizes])
