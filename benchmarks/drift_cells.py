"""Simulated cells for the benchmark of drift: of known runs, of new ones and of new media, and changed ones.

All are imaged by `pipelines.commands.simulate`, with the lamp, gain and focus of their run.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope import config
from fatescope.data import features, images
from fatescope.data.crops import Pixels, background, center
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from pipelines.commands import simulate
from pipelines.simulation.acquisition_groups import Group, groups

Key = tuple[str, int, int]
"""Medium, day and run."""
Crops = dict[str, list[Pixels]]
"""Group → native crops."""
SEED = 0
_BATCH = 256
Change = Callable[[Pixels, np.random.Generator], npt.NDArray[np.floating]]


def lamp(factor: float) -> Change:
    """Return a change of the lamp: all pixels brighter by a factor."""
    return lambda pixels, _: pixels * factor


def gain(factor: float) -> Change:
    """Return a change of the contrast: deviations from the background larger by a factor."""
    return lambda pixels, _: background(pixels[None])[0] * (1 - factor) + pixels * factor


def noise(counts: float) -> Change:
    """Return a change of the noise: a standard deviation of `counts` added to the noise of the camera."""
    return lambda pixels, rng: pixels + rng.normal(0, counts, pixels.shape)


def blur(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return the mean over 3x3 px: out of focus by about a pixel."""
    padded = np.pad(pixels.astype(float), 1, mode="edge")
    height, width = pixels.shape
    total: npt.NDArray[np.floating] = np.sum(
        [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0
    )
    return total / 9


def crop(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return a crop that is 6 px smaller at each side."""
    return pixels[6:-6, 6:-6].astype(float)


CHANGES: dict[str, Change] = {
    "lamp, +3 %": lamp(1.03),
    "lamp, +10 %": lamp(1.1),
    "lamp, +30 %": lamp(1.3),
    "gain, +20 %": gain(1.2),
    "gain, +50 %": gain(1.5),
    "focus, 3x3 px mean": blur,
    "noise, 2 counts": noise(2.0),
    "noise, 5 counts": noise(5.0),
    "crop, 6 px less a side": crop,
}


def draw(settings: config.Simulate, keys: list[Key], cells: int) -> Crops:
    """Simulate `cells` unseen cells of each group, imaged as the other cells of their group."""
    crops = {}
    for medium, day, run in keys:
        # Cells with the first numbers may be those of the data.
        used = settings.cells // len(groups(settings)) + 1 if run <= settings.runs else 0
        group = Group(medium, day, run, used + cells)
        with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
            simulate.draw_group(settings, group, Path(name))
            paths = (Path(name) / group.sample).glob("*_Ch1.ome.tif")
            chosen = sorted(path for path in paths if int(re.findall(r"_(\d+)_Ch1", path.name)[0]) > used)
            decoded = [images.decode(path.read_bytes(), path.name, 10**6)[0] for path in chosen]
        crops[f"{medium}_{day}_{run}"] = [pixels for _, pixels in decoded]
    return crops


def describe(model: Bundle, known: Crops, change: Change | None = None) -> pd.DataFrame:
    """Return the rows of the prediction log for cells that are changed by `change`."""
    rng, depth = np.random.default_rng(SEED), model.spec.bit_depths[0]
    tables = []
    for group, cells in known.items():
        crops = cells
        if change is not None:
            crops = [np.clip(np.rint(change(cell, rng)), 0, 2**depth - 1).astype(np.uint16) for cell in cells]
        values = np.concatenate([features.acquisition(crop[None], depth) for crop in crops])
        manifest = pd.DataFrame(values, columns=list(features.ACQUISITION)).assign(label="", group=group)
        manifest = manifest.assign(height=[crop.shape[0] for crop in crops], width=[crop.shape[1] for crop in crops])
        centred = np.stack([center(crop, model.spec.canvas, group) for crop in crops])
        batches = [centred[start : start + _BATCH] for start in range(0, len(centred), _BATCH)]
        predictions = [model.predict(batch) for batch in batches]
        tables.append(bundle.build_reference(manifest, predictions, model.spec, model.outliers))
    return pd.concat(tables, ignore_index=True)
