"""The shape of one simulated cell: its optical path (thickness times refractive index) on a pixel grid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.simulation.phenotypes import PROGENITOR, SCATTER, Phenotype

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A cell on a (H, W) grid."""

    path: Floats
    """Optical path, arbitrary units around 1 in the soma."""
    body: Floats
    """Soma and processes, 0 to 1."""
    nucleus: Floats
    """0 to 1"""


def _individual(
    rng: np.random.Generator, kind: Phenotype, maturity: float, scatter: Mapping[str, float] | None
) -> Phenotype:
    """Draw the traits of one cell: between progenitor and `kind` by its maturity, 0 to 1, and with its own scatter.

    `scatter` is that of a cell that was drawn before, trait → standard deviations.
    """
    traits = {name: (1 - maturity) * getattr(PROGENITOR, name) + maturity * getattr(kind, name) for name in SCATTER}
    own = draw_scatter(rng) if scatter is None else scatter
    return replace(kind, **{name: value * float(np.exp(SCATTER[name] * own[name])) for name, value in traits.items()})


def draw_scatter(rng: np.random.Generator) -> dict[str, float]:
    """Draw how far each trait of a cell is from the mean of its kind, in standard deviations."""
    return {name: rng.standard_normal() for name in SCATTER}


def draw_shape(
    rng: np.random.Generator,
    kind: Phenotype,
    maturity: float,
    tilt: float,
    grid: Floats,
    scatter: Mapping[str, float] | None = None,
) -> Shape:
    """Draw one cell on the (2, H, W) coordinates `grid`; `tilt` is the direction of the flow, radians.

    `scatter` is that of the cell in its other images, where there are any.
    """
    one = _individual(rng, kind, maturity, scatter)
    angle = tilt + 0.9 * rng.standard_normal()
    along = np.cos(angle) * grid[1] + np.sin(angle) * grid[0]
    across = np.cos(angle) * grid[0] - np.sin(angle) * grid[1]
    axes = np.stack([along, across])
    inside = _inside(rng, one, axes)
    # A hemisphere with a soft edge: a hard one would ring.
    dome = np.sqrt(np.clip(1 - inside**2, 0, None)) * 0.7 + 0.3 / (1 + np.exp((inside - 1) * one.radius / 0.5))
    arms = np.zeros_like(dome)
    for heading in _headings(rng, one, maturity):
        arms = np.maximum(arms, _process(rng, one, axes, heading))
    nucleus = _nucleus(rng, one, axes)
    granules = one.granularity * grains(rng, dome.shape, one.grain) * (1 - 0.5 * nucleus)
    rim = one.patchy * grains(rng, dome.shape, 2.2) * np.exp(-(((inside - 0.85) / 0.15) ** 2))
    strength = np.exp(0.2 * rng.standard_normal())
    path = strength * (dome * (1 + granules) + 0.25 * nucleus + 0.45 * arms * (1 - dome) + rim)
    return Shape(path, np.maximum(dome, 0.6 * arms), nucleus)


def _inside(rng: np.random.Generator, one: Phenotype, axes: Floats) -> Floats:
    """Return the distance from the middle over that of the soma's outline in the same direction."""
    stretch = np.sqrt(max(one.aspect, 1.0))
    theta = np.arctan2(axes[1], axes[0])
    outline = 1 + 0.35 * one.eccentric * np.cos(theta)
    for k in range(2, 8):
        outline += one.rough * rng.standard_normal() * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    return cast("Floats", np.hypot(axes[0] / stretch, axes[1] * stretch) / one.radius / np.maximum(outline, 0.4))


def _headings(rng: np.random.Generator, one: Phenotype, maturity: float) -> Floats:
    """Return the directions in which processes leave, radians from the long axis."""
    count = max(round(one.processes + 0.45 * rng.standard_normal()), 0)
    if not one.poles:
        return np.arange(count) * 2 * np.pi / max(count, 1) + rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.35, count)
    poles = np.array([one.poles[i % len(one.poles)] for i in range(count)])
    return poles + (0.15 + 1.0 * (1 - maturity)) * rng.standard_normal(count)


def _process(rng: np.random.Generator, one: Phenotype, axes: Floats, heading: float) -> Floats:
    """Return a bent, tapering process, 0 to 1, as the nearest of discs along its course."""
    steps, stretch = 14, np.sqrt(max(one.aspect, 1.0))
    bends = heading + np.cumsum(rng.normal(0, 0.11, steps))
    stride = one.length * np.exp(0.25 * rng.standard_normal()) / steps
    x = 0.85 * one.radius * np.cos(heading) * stretch + np.cumsum(np.cos(bends)) * stride
    y = 0.85 * one.radius * np.sin(heading) / stretch + np.cumsum(np.sin(bends)) * stride
    width = one.thick * (1 - min(one.taper, 0.9) * np.arange(steps) / steps)
    reach = np.full(axes.shape[1:], np.inf)
    for i in range(steps):
        reach = np.minimum(reach, ((axes[0] - x[i]) ** 2 + (axes[1] - y[i]) ** 2) / width[i] ** 2)
    return cast("Floats", np.exp(-(reach**1.5) / 2))


def _nucleus(rng: np.random.Generator, one: Phenotype, axes: Floats) -> Floats:
    """Return a disc with a soft edge, 0 to 1, that is off the middle in eccentric cells."""
    shift = one.eccentric * one.radius * np.array([1.0, 0.3 * rng.standard_normal()])
    reach = np.hypot(axes[0] + shift[0], axes[1] - shift[1]) / (one.radius * rng.uniform(0.42, 0.56))
    return cast("Floats", 1 / (1 + np.exp((reach - 1) * 8)))


def grains(rng: np.random.Generator, size: tuple[int, ...], grain: float) -> Floats:
    """Return noise with zero mean, unit standard deviation and blobs of about `grain` px."""
    noise = rng.standard_normal(size)
    band = ndimage.gaussian_filter(noise, grain / 2, mode="wrap") - ndimage.gaussian_filter(
        noise, 2 * grain, mode="wrap"
    )
    return cast("Floats", band / band.std())


def neighbour(rng: np.random.Generator, kind: Phenotype, maturity: float, tilt: float, grid: Floats) -> Shape:
    """Return a second cell that touches the first."""
    angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(13, 17)
    shift = gap * np.array([np.sin(angle), np.cos(angle)])
    return draw_shape(rng, kind, maturity, tilt, grid - shift[:, None, None])


def debris(rng: np.random.Generator, grid: Floats, distance: tuple[float, float] = (12, 20)) -> Shape:
    """Return one to three fragments at a `distance` from the middle, px: by default beside a cell."""
    path = np.zeros(grid.shape[1:])
    for _ in range(int(rng.integers(1, 4))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(*distance)
        reach = np.hypot(grid[0] - far * np.sin(angle), grid[1] - far * np.cos(angle)) / rng.uniform(0.9, 2.2)
        path = np.maximum(path, rng.uniform(0.4, 1.0) * np.exp(-(reach**3)))
    return Shape(path, np.zeros_like(path), np.zeros_like(path))


def join(one: Shape, other: Shape) -> Shape:
    """Return both on one grid."""
    return Shape(one.path + other.path, np.maximum(one.body, other.body), np.maximum(one.nucleus, other.nucleus))
