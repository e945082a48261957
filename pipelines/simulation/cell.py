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
from pipelines.simulation.shapes import Floats, debris, draw_scatter, draw_shape, join, neighbour

MARGIN = 10
"""Pixels drawn around the crop and cut off again, so that the Fourier transform does not wrap around into it."""


@dataclass(frozen=True)
class Identity:
    """What stays the same in all images of one cell, while focus, noise and orientation are those of each."""

    pace: float
    """How far its maturity is ahead of the mean of its age, standard deviations."""
    scatter: dict[str, float]
    """Trait → how far it is from the mean of the kind of cell, standard deviations."""
    event: float
    """0 to 1: whether there is a second cell or debris beside it."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Identity":
        """Draw a cell."""
        return cls(rng.standard_normal(), draw_scatter(rng), rng.random())


@dataclass(frozen=True)
class Beside:
    """What is drawn from random numbers of its own, so that the rest does not change with it."""

    scatter: np.random.Generator | None = None
    """Those of the darkfield, where it is drawn."""
    junk: Junk | None = None
    """What the object is instead of a cell."""
    identity: Identity | None = None
    """The cell, where it has several images."""


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
    day: float,
    run: Acquisition,
    size: tuple[int, int],
    markers: int,
    beside: Beside,
) -> DrawnCell:
    """Return the (H, W) uint16 channels of one object: brightfield, `markers` fluorescence channels, and darkfield.

    `phenotype` is that of a mature cell; how mature this one is depends on the day and on chance.
    """
    junk, scatter, known = beside.junk, beside.scatter, beside.identity
    grid = _grid(rng, size)
    grid = junk.move(grid, size) if junk else grid
    pace = known.pace if known else rng.standard_normal()
    maturity = float(np.clip(1 - np.exp(-(day + 0.6) / 2.2) + 0.16 * pace, 0, 1))
    shape = draw_shape(rng, phenotype, maturity, run.tilt, grid, known.scatter if known else None)
    event = known.event if known else rng.random()
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
