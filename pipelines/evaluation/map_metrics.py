"""Whether activation maps point at what decides: deletion and insertion (Petsiuk, Das and Saenko 2018).

The pixels of a cell are ranked by the map of its predicted class. Deletion replaces them by the background of the cell,
those first that speak most for the class: the sooner its probability falls, the better the map. Insertion starts from a
blurred cell and puts them back in the same order: the sooner the probability rises, the better. Both are the mean
probability over all steps. To compare, the positions of the same map are put in random order, so that neither its
coarseness nor its smoothness makes a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from fatescope.data.crops import background
from fatescope.data.dataset import CellDataset
from fatescope.inference import cam
from pipelines.evaluation import intervals
from pipelines.evaluation.evaluated_model import EvaluatedModel
from pipelines.evaluation.intervals import Units
from pipelines.evaluation.metrics_report import MapMetrics

Pixels = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Classify = Callable[[Pixels], Floats]
"""Returns (B, K) probabilities for (B, …, H, W) raw pixels on the canvas."""

STEPS = 8
"""Steps from the whole cell to none of it."""
CELLS = 200
FEWEST = 32
"""Most and fewest test cells that are tried, as far as there are so many."""
MULTIPLY_ADDS = 1e12
"""What it may cost in all, about half a minute on one core."""
BATCH = 256
BLUR = 0.1
"""Standard deviation of the blur, as a share of the shorter side of a crop: no detail is left of a cell."""


@dataclass(frozen=True)
class Areas:
    """The mean probability of the predicted class over all steps, (n,) each."""

    deletion: Floats
    insertion: Floats
    deletion_random: Floats
    insertion_random: Floats

    def gain(self, test: str) -> Floats:
        """Return (n,) how much better the map does than random order in `deletion` or `insertion`."""
        if test == "deletion":
            return self.deletion_random - self.deletion
        return self.insertion - self.insertion_random


def areas(
    classify: Classify,
    pixels: Pixels,
    sizes: Indices,
    maps: npt.NDArray[np.float32],
    predicted: Indices,
    fits: list[dict[str, Any]],
    seed: int,
) -> Areas:
    """Delete and insert the pixels of (n, …, H, W) cells in the order of their maps, and in random order.

    `sizes` (n, 2) are the native height and width of the cells, `maps` (n, h, w) those of the `predicted` classes (n,),
    and `fits` the sections `train` of the members of the model.
    """
    rng, canvas = np.random.default_rng(seed), (pixels.shape[-2], pixels.shape[-1])
    shuffled = rng.permuted(maps.reshape(len(maps), -1), axis=1).reshape(maps.shape)
    blank = np.broadcast_to(background(pixels)[..., None, None], pixels.shape).astype(pixels.dtype)
    blurred = np.stack([_blur(cell, size) for cell, size in zip(pixels, sizes, strict=True)])
    found = {}
    for order, ranked in (("", maps), ("_random", shuffled)):
        places = np.stack([_rank(one, size, canvas, fits, rng) for one, size in zip(ranked, sizes, strict=True)])
        if pixels.ndim > places.ndim:
            places = places[:, None]
        found[f"deletion{order}"] = _area(classify, pixels, blank, places, predicted)
        found[f"insertion{order}"] = _area(classify, blurred, pixels, places, predicted)
    return Areas(**found)


def summarise(measured: Areas, positions: tuple[int, int], targets: Indices, units: Units) -> MapMetrics:
    """Return the means over n cells of the classes `targets` (n,), and intervals of their gain over `units`."""
    limits: dict[str, list[float] | None] = {}
    for test in ("deletion", "insertion"):
        means = intervals.mean_without(measured.gain(test), targets, np.ones(len(targets)), units)
        ends = intervals.interval(means, units, intervals.DIFFERENCE)
        few = intervals.why_none(units) is not None or ends.degenerate
        limits[test] = None if few else [ends.low, ends.high]
    return MapMetrics(
        cells=len(targets),
        positions=positions,
        **{name: float(values.mean()) for name, values in vars(measured).items()},
        gain={test: float(measured.gain(test).mean()) for test in limits},
        intervals=limits,
    )


def measure_maps(evaluated: EvaluatedModel, source: CellDataset, seed: int) -> MapMetrics:
    """Try the maps of a model on some of its test cells, as many as `MULTIPLY_ADDS` allow."""
    model = evaluated.model
    passes = 4 * (STEPS + 1) * model.spec.cost["multiply_adds"]
    most = int(np.clip(MULTIPLY_ADDS / passes, FEWEST, CELLS))
    places = np.unique(np.linspace(0, len(evaluated.rows) - 1, min(most, len(evaluated.rows))).astype(int))
    rows, predicted = evaluated.rows[places], evaluated.predicted[places]
    cells = source.take(rows, ["label", "group", "height", "width"])
    pixels = source.pixels[rows]
    maps = np.concatenate([model.predict(part).activation_map for part in _batches(pixels)])
    maps = maps[np.arange(len(rows)), predicted]

    def classify(part: Pixels) -> Floats:
        probabilities: Floats = softmax(model.predict(part, maps=False).logits, axis=1)
        return probabilities

    sizes, fits = cells[["height", "width"]].to_numpy(np.int64), model.spec.params["train"]
    measured = areas(classify, pixels, sizes, maps, predicted, fits, seed)
    units = intervals.choose_units(cells["group"].to_numpy(str), cells["label"].to_numpy(str))
    return summarise(measured, maps.shape[1:], evaluated.targets[places], units)


def _rank(
    activation: npt.NDArray[np.float32],
    size: Indices,
    canvas: tuple[int, int],
    fits: list[dict[str, Any]],
    rng: np.random.Generator,
) -> Floats:
    """Return the (H, W) share of the pixels of a crop that come before each; 1 around the crop, which stays."""
    height, width = (min(int(side), most) for side, most in zip(size, canvas, strict=True))
    strength = cam.register(activation, (height, width), canvas, fits).ravel()
    # Where the map is flat, chance decides and not the order of rows.
    order = np.lexsort((rng.random(len(strength)), -strength))
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) / len(order)
    places = np.ones(canvas)
    top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
    places[top : top + height, left : left + width] = rank.reshape(height, width)
    return places


def _area(classify: Classify, start: Pixels, end: Pixels, places: Floats, predicted: Indices) -> Floats:
    """Return the (n,) mean probability of the classes `predicted` while `start` turns into `end`."""
    values = []
    for share in np.linspace(0, 1, STEPS + 1):
        mixed = np.where(places < share, end, start)
        probabilities = np.concatenate([classify(part) for part in _batches(mixed)])
        values.append(probabilities[np.arange(len(predicted)), predicted])
    mean: Floats = np.trapezoid(np.stack(values), dx=1 / STEPS, axis=0)
    return mean


def _blur(cell: Pixels, size: Indices) -> Pixels:
    sigma = BLUR * int(size.min())
    blurred: Pixels = gaussian_filter(cell.astype(np.float32), sigma, axes=(-2, -1), mode="nearest").round()
    return blurred.astype(cell.dtype)


def _batches(pixels: Pixels) -> list[Pixels]:
    return [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
