"""How one simulated cell looks: its shape, what the optics make of it, and what the camera counts.

The shape is an optical path (thickness times refractive index) on a pixel grid. Brightfield follows from the contrast
transfer function of a weak phase object at a defocus (Reimer, Transmission Electron Microscopy, chapter 6) plus light
that steep edges refract out of the aperture, which gives real cells their dark rim. Arithmetic is float64 throughout,
so that the last rounding hides what sine and exponential differ by from machine to machine.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint16]

BIT_DEPTH = 12
"""Significant bits of the camera, in a container of 16."""
MARKERS = ("GFAP", "MBP", "TUJ1", "Nestin", "DAPI")
"""What the fluorescence channels show, from channel 2."""
MARGIN = 10
"""Pixels drawn around the crop and cut off again, so that the Fourier transform's wrapping stays outside."""


@dataclass(frozen=True)
class Phenotype:
    """The mean shape of a kind of cell; each cell scatters around it."""

    radius: float
    """Of the soma, px."""
    aspect: float
    """Long over short axis of the soma."""
    rough: float
    """Waviness of the outline, share of the radius."""
    processes: float
    """How many processes leave the soma."""
    poles: tuple[float, ...]
    """Where they leave, radians from the long axis; empty: all around."""
    length: float
    """Of a process, px."""
    thick: float
    """Half width of a process at its root, px."""
    taper: float
    """Share of that width lost towards the tip."""
    grain: float
    """Size of granules, px."""
    granularity: float
    """Path of granules over that of the soma."""
    eccentric: float
    """Distance of the nucleus from the middle, share of the radius; the soma tapers the other way."""
    patchy: float
    """Unevenness of the rim, share of its path."""
    markers: tuple[float, ...]
    """Expression of each of MARKERS, 0 to 1."""


PROGENITOR = Phenotype(8.1, 1.15, 0.03, 2.2, (), 2.0, 1.2, 0.5, 1.4, 0.14, 0.15, 0.06, (0.15, 0.05, 0.1, 0.9, 0.8))
"""A neural stem cell: what every cell was before its medium worked on it."""


SCATTER = {
    "radius": 0.11,
    "aspect": 0.10,
    "rough": 0.4,
    "processes": 0.2,
    "length": 0.2,
    "thick": 0.15,
    "taper": 0.1,
    "grain": 0.15,
    "granularity": 0.25,
    "eccentric": 0.4,
    "patchy": 0.3,
}
"""Spread of each trait among cells of one kind and maturity, of its logarithm."""


@dataclass(frozen=True)
class Acquisition:
    """How the instrument stood during one run; each cell scatters around it."""

    lamp: float
    """Mean background level, counts; it drifts by a few percent from cell to cell."""
    gain: float
    """Noise variance over counts, relative to the usual."""
    focus: float
    """Defocus, 1 turns the halo of a fine edge fully bright."""
    noise: float
    """Read noise, counts."""
    tilt: float
    """Direction of the flow in the image, radians."""
    slope: float
    """Change of illumination across the flow over one crop, share of the lamp level."""


@dataclass(frozen=True)
class Shape:
    """A cell on a (H, W) grid."""

    path: Floats
    """Optical path, arbitrary units around 1 in the soma."""
    body: Floats
    """Soma and processes, 0 to 1."""
    nucleus: Floats
    """0 to 1"""


def draw_cell(
    rng: np.random.Generator,
    phenotype: Phenotype,
    day: int,
    run: Acquisition,
    size: tuple[int, int],
    markers: int,
) -> list[Pixels]:
    """Return the (H, W) uint16 channels of one object: brightfield, then `markers` fluorescence channels.

    `phenotype` is the mature cell; how far this one is on the way depends on the day and on chance.
    """
    grid = _grid(rng, size)
    maturity = float(np.clip(1 - np.exp(-(day + 0.6) / 2.2) + 0.16 * rng.standard_normal(), 0, 1))
    shape = _shape(rng, phenotype, maturity, run.tilt, grid)
    event = rng.random()
    if event < 0.04:
        shape = _join(shape, _neighbour(rng, phenotype, maturity, run.tilt, grid))
    elif event < 0.08:
        shape = _join(shape, _debris(rng, grid))
    cut = (slice(MARGIN, -MARGIN),) * 2
    light = _brightfield(rng, shape.path, run)[cut]
    images = [_expose(rng, light * run.lamp * _illumination(rng, run, size), run)]
    for expression, base in list(zip(phenotype.markers, PROGENITOR.markers, strict=True))[:markers]:
        level = base + maturity * (expression - base)
        images.append(_expose(rng, _fluorescence(rng, shape, level, len(images))[cut], run))
    return images


def _grid(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Return (2, H, W) coordinates in px, down and right of the cell, which is not quite in the middle."""
    height, width = (side + 2 * MARGIN for side in size)
    grid = np.mgrid[:height, :width].astype(np.float64)
    middle = np.array([height - 1, width - 1]) / 2 + np.clip(rng.normal(0, (1.2, 1.8)), -4, 4)
    return grid - middle[:, None, None]


def _individual(rng: np.random.Generator, kind: Phenotype, maturity: float) -> Phenotype:
    """Return the shape of one cell: between progenitor and `kind` by maturity, 0 to 1, and its own by chance."""
    traits = {name: (1 - maturity) * getattr(PROGENITOR, name) + maturity * getattr(kind, name) for name in SCATTER}
    return replace(kind, **{n: v * float(np.exp(SCATTER[n] * rng.standard_normal())) for n, v in traits.items()})


def _shape(rng: np.random.Generator, kind: Phenotype, maturity: float, tilt: float, grid: Floats) -> Shape:
    one = _individual(rng, kind, maturity)
    angle = tilt + 0.9 * rng.standard_normal()
    along = np.cos(angle) * grid[1] + np.sin(angle) * grid[0]
    across = np.cos(angle) * grid[0] - np.sin(angle) * grid[1]
    axes = np.stack([along, across])
    inside = _inside(rng, one, axes)
    # The dome of a ball with a soft edge: a hard one would ring.
    dome = np.sqrt(np.clip(1 - inside**2, 0, None)) * 0.7 + 0.3 / (1 + np.exp((inside - 1) * one.radius / 0.5))
    arms = np.zeros_like(dome)
    for heading in _headings(rng, one, maturity):
        arms = np.maximum(arms, _process(rng, one, axes, heading))
    nucleus = _nucleus(rng, one, axes)
    grains = one.granularity * _grains(rng, dome.shape, one.grain) * (1 - 0.5 * nucleus)
    rim = one.patchy * _grains(rng, dome.shape, 2.2) * np.exp(-(((inside - 0.85) / 0.15) ** 2))
    strength = np.exp(0.2 * rng.standard_normal())
    path = strength * (dome * (1 + grains) + 0.25 * nucleus + 0.45 * arms * (1 - dome) + rim)
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
    shift = one.eccentric * one.radius * np.array([1.0, 0.3 * rng.standard_normal()])
    reach = np.hypot(axes[0] + shift[0], axes[1] - shift[1]) / (one.radius * rng.uniform(0.42, 0.56))
    return cast("Floats", 1 / (1 + np.exp((reach - 1) * 8)))


def _grains(rng: np.random.Generator, size: tuple[int, ...], grain: float) -> Floats:
    """Return noise of zero mean and unit spread whose blobs are about `grain` px."""
    noise = rng.standard_normal(size)
    band = ndimage.gaussian_filter(noise, grain / 2, mode="wrap") - ndimage.gaussian_filter(
        noise, 2 * grain, mode="wrap"
    )
    return cast("Floats", band / band.std())


def _neighbour(rng: np.random.Generator, kind: Phenotype, maturity: float, tilt: float, grid: Floats) -> Shape:
    """Return a second cell that touches the first."""
    angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(13, 17)
    shift = gap * np.array([np.sin(angle), np.cos(angle)])
    return _shape(rng, kind, maturity, tilt, grid - shift[:, None, None])


def _debris(rng: np.random.Generator, grid: Floats) -> Shape:
    """Return one to three fragments beside the cell."""
    path = np.zeros(grid.shape[1:])
    for _ in range(int(rng.integers(1, 4))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(12, 20)
        reach = np.hypot(grid[0] - far * np.sin(angle), grid[1] - far * np.cos(angle)) / rng.uniform(0.9, 2.2)
        path = np.maximum(path, rng.uniform(0.4, 1.0) * np.exp(-(reach**3)))
    return Shape(path, np.zeros_like(path), np.zeros_like(path))


def _join(one: Shape, other: Shape) -> Shape:
    return Shape(one.path + other.path, np.maximum(one.body, other.body), np.maximum(one.nucleus, other.nucleus))


def _brightfield(rng: np.random.Generator, path: Floats, run: Acquisition) -> Floats:
    """Return the light that passes, 1 where there is no cell."""
    focus = 0.55 + run.focus + 0.2 * rng.standard_normal()
    if rng.random() < 0.06:
        focus += rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.4)
    squared = np.fft.fftfreq(path.shape[0])[:, None] ** 2 + np.fft.rfftfreq(path.shape[1])[None, :] ** 2
    phase = 15 * np.pi * focus * squared
    # The lamp is an extended source: high frequencies fade, the more so out of focus.
    fade = np.exp(-squared / 0.42**2 - (focus**2) * squared / 0.28**2)
    smooth = np.fft.irfft2(np.fft.rfft2(path) * fade, path.shape)
    fine = np.fft.irfft2(np.fft.rfft2(path) * fade * (np.sin(phase) * 0.55 - np.cos(phase) * 0.06), path.shape)
    down, right = np.gradient(smooth)
    lost = 1.8 * (down**2 + right**2)
    return cast("Floats", np.maximum(1 + fine - lost / (1 + 2 * lost), 0.05))


def _illumination(rng: np.random.Generator, run: Acquisition, size: tuple[int, int]) -> Floats:
    """Return the lamp's drift and evenness over the crop with the stripes of the camera's columns, around 1."""
    # By cell, because where it passes differs: a pattern that is fixed in the crop would be the run's fingerprint.
    down, right = 0.006 * rng.standard_normal(), run.slope + 0.008 * rng.standard_normal()
    stripes = 1 + rng.uniform(0.001, 0.006) * rng.standard_normal(size[1])
    slope = down * np.linspace(-0.5, 0.5, size[0])[:, None] + right * np.linspace(-0.5, 0.5, size[1])[None, :]
    drift = 1 + 0.035 * rng.standard_normal()
    return drift * (1 + slope) * stripes


def _fluorescence(rng: np.random.Generator, shape: Shape, level: float, channel: int) -> Floats:
    """Return counts of one marker: offset, autofluorescence, and what the cell expresses."""
    where = shape.nucleus if MARKERS[channel - 1] == "DAPI" else shape.body * (1 - 0.6 * shape.nucleus)
    texture = 1 + 0.25 * _grains(rng, where.shape, 2.0)
    total = (60 + 900 * level * np.exp(0.45 * rng.standard_normal())) * np.clip(texture, 0, None)
    return cast("Floats", 80 + ndimage.gaussian_filter(where * total, 0.9))


def _expose(rng: np.random.Generator, counts: Floats, run: Acquisition) -> Pixels:
    """Add shot and read noise to expected counts and digitise them."""
    # Shot noise as a normal draw: at these counts nobody can tell, and it is the same on every machine.
    spread = np.sqrt(0.03 * run.gain * np.maximum(counts, 0) + run.noise**2)
    noisy = counts + spread * rng.standard_normal(counts.shape)
    return np.clip(np.rint(noisy), 0, 2**BIT_DEPTH - 1).astype(np.uint16)
