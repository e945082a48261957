"""Run a bundle on cells of the table, a batch at a time."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config.names import plain_channel
from fatescope.data.crops import center
from fatescope.data.dataset import CellDataset, crop
from fatescope.errors import DataError
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import Assessment
from pipelines.progress import progress

BATCH = 256
"""Cells that the graph gets at a time."""


def assess(model: Bundle, source: CellDataset, rows: npt.NDArray[np.int64]) -> Assessment:
    """Return the assessment of the cells in `rows`, on the canvas of the model and in the channels that it takes.

    Raises ImageError for a cell that is larger than that, and DataError where the cells lack a channel.
    """
    batches, places = [], _channels_of(model, source)
    sizes = None if source.canvas == model.spec.canvas else source.take(rows, ["cell_id", "height", "width"])
    for start in progress(range(0, len(rows), BATCH), "predict", "batch"):
        chosen = rows[start : start + BATCH]
        pixels = source.pixels[chosen] if places is None else source.pixels[chosen][:, places]
        if sizes is not None:
            pixels = recanvas(pixels, sizes.iloc[start : start + BATCH], model.spec.canvas)
        batches.append(model.assess(model.predict(pixels, maps=False)))
    return Assessment.concatenate(batches)


def _channels_of(model: Bundle, source: CellDataset) -> list[int] | int | None:
    """Return where the channels of the model are in the pixels of the cells, None where they are the pixels.

    A champion may see fewer channels than cells that were ingested since.
    """
    taken, there = [list(map(plain_channel, names)) for names in (model.spec.inputs, source.channels)]
    if taken == there or not taken or not there:
        return None
    if missing := [name for name in taken if name not in there]:
        raise DataError(
            f"the model takes channel {missing[0]} of a cell, but these cells were ingested with {list(there)}; "
            "add it to dataset.channels and ingest again, or train a model of the channels that there are"
        )
    places = [there.index(name) for name in taken]
    return places[0] if len(places) == 1 else places


def recanvas(pixels: npt.NDArray[np.uint16], manifest: pd.DataFrame, canvas: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Return cells on another canvas, as if they had been ingested on it.

    Raises ImageError for a cell that is larger than `canvas`.
    """
    if pixels.shape[-2:] == canvas:
        return pixels
    sizes = zip(pixels, manifest["cell_id"], manifest["height"], manifest["width"], strict=True)
    return np.stack([center(crop(image, height, width), canvas, name) for image, name, height, width in sizes])
