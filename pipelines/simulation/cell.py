"""Draw one simulated cell in all its channels.

Arithmetic is float64 throughout, so that the last rounding hides what sine and exponential differ by from machine to
machine.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.simulation.junk import Junk
from pipelines.simulation.optics import (
    Acquisition,
    Pixels,
    brightfield,
    darkfield,
    draw_focus,
    expose,
    fluorescence,
    illumination,
)
from pipelines.simulation.phenotypes import PROGENITOR, Phenotype
from pipelines.simulation.shapes import Floats, debris, draw_shape, join, neighbour

MARGIN = 10
"""Pixels drawn around the crop and cut off again, so that the Fourier transform does not wrap around into it."""


@dataclass(frozen=True)
class Beside:
    """What is drawn from random numbers of its own, so that the rest does not change with it."""

    scatter: np.random.Generator | None = None
    """Those of the darkfield, where it is drawn."""
    junk: Junk | None = None
    """What the object is instead of a cell."""


@dataclass(frozen=True)
class DrawnCell:
    """The images of one object, and what is in them."""

    channels: list[Pixels]
    """(H, W) brightfield, fluorescence, darkfield."""
    kind: str
    """`cell`, or what is wrong with it: one of `junk.KINDS`."""
    planted: bool
    """Whether it is so because junk was asked for; 4 % of all objects are doublets and 6 % out of focus without."""


def draw_cell(
    rng: np.random.Generator,
    phenotype: Phenotype,
    day: int,
    run: Acquisition,
    size: tuple[int, int],
    markers: int,
    beside: Beside,
) -> DrawnCell:
    """Return the (H, W) uint16 channels of one object: brightfield, `markers` fluorescence channels, and darkfield.

    `phenotype` is that of a mature cell; how mature this one is depends on the day and on chance.
    """
    junk, scatter = beside.junk, beside.scatter
    grid = _grid(rng, size)
    grid = junk.move(grid, size) if junk else grid
    maturity = float(np.clip(1 - np.exp(-(day + 0.6) / 2.2) + 0.16 * rng.standard_normal(), 0, 1))
    shape = draw_shape(rng, phenotype, maturity, run.tilt, grid)
    event = rng.random()
    doublet = junk.kind == "doublet" if junk else event < 0.04
    if doublet:
        shape = join(shape, neighbour(rng, phenotype, maturity, run.tilt, grid))
    elif event < 0.08 and not junk:
        shape = join(shape, debris(rng, grid))
    if junk:
        shape, run = junk.replace(shape, grid), junk.disturb(run)
    cut = (slice(MARGIN, -MARGIN),) * 2
    focus, far = draw_focus(rng, run)
    focus = junk.defocus(focus) if junk else focus
    light = brightfield(shape.path, focus)[cut]
    images = [expose(rng, light * run.lamp * illumination(rng, run, size), run)]
    for expression, base in list(zip(phenotype.markers, PROGENITOR.markers, strict=True))[:markers]:
        level = base + maturity * (expression - base)
        images.append(expose(rng, fluorescence(rng, shape, level, len(images))[cut], run))
    if scatter is not None:
        granularity = 1 - maturity + maturity * phenotype.granularity / PROGENITOR.granularity
        images.append(expose(scatter, darkfield(scatter, shape, granularity, run)[cut], run))
    kind = junk.kind if junk else "doublet" if doublet else "focus" if far else "cell"
    return DrawnCell(images, kind, junk is not None)


def _grid(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Return (2, H, W) coordinates in px, downwards and to the right of the cell, which is not quite in the middle."""
    height, width = (side + 2 * MARGIN for side in size)
    grid = np.mgrid[:height, :width].astype(np.float64)
    middle = np.array([height - 1, width - 1]) / 2 + np.clip(rng.normal(0, (1.2, 1.8)), -4, 4)
    return grid - middle[:, None, None]
