"""Test cells as the instrument that trained sees them, and as others do.

Simulated cells are drawn anew by the optics of `pipelines.simulation`: the same cells of the same runs, with another
focus, noise, gain or illumination. Of real cells there is only the image, which `pipelines.evaluation.
instrument_shifts` changes; so it does for the size of pixels, which the optics do not know.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.few_labels.sets import Divided, Indices, Sets
from fatescope.data import dataset
from fatescope.data.crops import center
from pipelines.evaluation.instrument_shifts import PIXEL_SIZE, SHIFTS, shift_cells, shift_crop
from pipelines.simulation.acquisition_groups import draw_cells, groups
from pipelines.simulation.optics import Acquisition

Pixels = npt.NDArray[np.uint16]

LIKE = "like cells"
FOCUS_UP, NOISE_UP, GAIN_TIMES, LAMP_TIMES, SLOPE_UP = 0.4, 6.0, 6.0, 0.75, 0.12
"""What the other instruments have more than that of a run: defocus, read noise (counts), variance of the shot noise,
level of the lamp, and change of the illumination over the crop. The first is twice what cells of a run scatter by."""
RUNS, CELLS = 8, 12
"""Runs of each medium and day, and cells of each."""
OTHERS: dict[str, Callable[[Acquisition], Acquisition]] = {
    LIKE: lambda run: run,
    "focus": lambda run: replace(run, focus=run.focus + FOCUS_UP),
    "noise": lambda run: replace(run, noise=run.noise + NOISE_UP),
    "gain": lambda run: replace(run, gain=run.gain * GAIN_TIMES),
    "illumination": lambda run: replace(run, lamp=run.lamp * LAMP_TIMES, slope=run.slope + SLOPE_UP),
}


@dataclass(frozen=True)
class Tested:
    """The same n cells under all conditions, LIKE first."""

    pixels: dict[str, Pixels]
    """Condition → (n, H, W)."""
    targets: Indices
    groups: Indices
    """(n,) the acquisition group of each."""


def of_images(cells: Divided, folder: Path, seed: int, shifts: Iterable[str] = SHIFTS) -> Tested:
    """Return the test cells of a set that was ingested into `folder`, whose images are changed by `shifts`."""
    source, rows = dataset.load(folder), cells.test
    shifted = {name: shift_cells(source, rows, name, seed) for name in shifts}
    return Tested({LIKE: source.pixels[rows], **shifted}, cells.examples.targets[rows], cells.groups[rows])


def of_simulation(sets: Sets, classes: tuple[str, ...]) -> Tested:
    """Return cells of new runs, which no other part of the benchmark draws, of `classes`."""
    runs = 1 if sets.small else RUNS
    params = sets.params.simulate
    cells = CELLS * runs * len(params.days) * len(sets.params.dataset.classes)
    fresh = {"seed": params.seed + 1, "runs": runs, "cells": cells, "marker_channels": 0, "darkfield": False}
    params = params.model_copy(update=fresh)
    names = sets.params.dataset.classes
    drawn = [group for group in groups(params) if names[group.medium] in classes]
    crops = {
        name: [cell.channels[0] for group in drawn for cell in draw_cells(params, group, change)]
        for name, change in OTHERS.items()
    }
    rng = np.random.default_rng(params.seed)
    crops[PIXEL_SIZE] = [shift_crop(crop, PIXEL_SIZE, rng) for crop in crops[LIKE]]
    canvas = tuple(sets.params.ingest.canvas)
    counts = [group.cells for group in drawn]
    return Tested(
        {name: np.stack([center(crop, canvas, name) for crop in taken]) for name, taken in crops.items()},
        np.repeat([classes.index(names[group.medium]) for group in drawn], counts),
        np.repeat(np.arange(len(drawn)), counts),
    )
