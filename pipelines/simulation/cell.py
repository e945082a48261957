"""Draw one simulated cell in all its channels.

Arithmetic is float64 throughout, so that the last rounding hides what sine and exponential differ by from machine to
machine.
"""

import numpy as np

from pipelines.simulation.optics import Acquisition, Pixels, brightfield, expose, fluorescence, illumination
from pipelines.simulation.phenotypes import PROGENITOR, Phenotype
from pipelines.simulation.shapes import Floats, debris, draw_shape, join, neighbour

MARGIN = 10
"""Pixels drawn around the crop and cut off again, so that the Fourier transform does not wrap around into it."""


def draw_cell(
    rng: np.random.Generator,
    phenotype: Phenotype,
    day: int,
    run: Acquisition,
    size: tuple[int, int],
    markers: int,
) -> list[Pixels]:
    """Return the (H, W) uint16 channels of one object: brightfield, then `markers` fluorescence channels.

    `phenotype` is that of a mature cell; how mature this one is depends on the day and on chance.
    """
    grid = _grid(rng, size)
    maturity = float(np.clip(1 - np.exp(-(day + 0.6) / 2.2) + 0.16 * rng.standard_normal(), 0, 1))
    shape = draw_shape(rng, phenotype, maturity, run.tilt, grid)
    event = rng.random()
    if event < 0.04:
        shape = join(shape, neighbour(rng, phenotype, maturity, run.tilt, grid))
    elif event < 0.08:
        shape = join(shape, debris(rng, grid))
    cut = (slice(MARGIN, -MARGIN),) * 2
    light = brightfield(rng, shape.path, run)[cut]
    images = [expose(rng, light * run.lamp * illumination(rng, run, size), run)]
    for expression, base in list(zip(phenotype.markers, PROGENITOR.markers, strict=True))[:markers]:
        level = base + maturity * (expression - base)
        images.append(expose(rng, fluorescence(rng, shape, level, len(images))[cut], run))
    return images


def _grid(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Return (2, H, W) coordinates in px, downwards and to the right of the cell, which is not quite in the middle."""
    height, width = (side + 2 * MARGIN for side in size)
    grid = np.mgrid[:height, :width].astype(np.float64)
    middle = np.array([height - 1, width - 1]) / 2 + np.clip(rng.normal(0, (1.2, 1.8)), -4, 4)
    return grid - middle[:, None, None]
