"""How the instrument images a simulated cell: brightfield, illumination, fluorescence and the camera.

Brightfield follows from the contrast transfer function of a weak phase object at a defocus (Reimer, Transmission
Electron Microscopy, chapter 6), plus light that steep edges refract out of the aperture, which gives real cells their
dark rim.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.simulation.phenotypes import MARKERS
from pipelines.simulation.shapes import Floats, Shape, grains

Pixels = npt.NDArray[np.uint16]

BIT_DEPTH = 12
"""Significant bits of the camera, in a container of 16."""


@dataclass(frozen=True)
class Acquisition:
    """The state of the instrument during one run, around which single images scatter."""

    lamp: float
    """Mean background level, counts; it drifts by a few percent from cell to cell."""
    gain: float
    """Noise variance over counts, relative to the usual camera."""
    focus: float
    """Defocus; at 1 the halo of a fine edge is fully bright."""
    noise: float
    """Read noise, counts."""
    tilt: float
    """Direction of the flow in the image, radians."""
    slope: float
    """Change of illumination across the flow over one crop, share of the lamp level."""
    laser: float = 1.0
    """Power of the laser of the darkfield, relative to the usual one."""


def draw_focus(rng: np.random.Generator, run: Acquisition) -> tuple[float, bool]:
    """Draw the defocus of one image, and return whether it is far from that of its run, which it is in 6 % of them."""
    focus, far = 0.55 + run.focus + 0.2 * rng.standard_normal(), bool(rng.random() < 0.06)
    if far:
        focus += rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.4)
    return float(focus), far


def brightfield(path: Floats, focus: float) -> Floats:
    """Return the transmitted light at a defocus, 1 where there is no cell."""
    squared = np.fft.fftfreq(path.shape[0])[:, None] ** 2 + np.fft.rfftfreq(path.shape[1])[None, :] ** 2
    phase = 15 * np.pi * focus * squared
    # The lamp is an extended source: high frequencies fade, the more so out of focus.
    fade = np.exp(-squared / 0.42**2 - (focus**2) * squared / 0.28**2)
    smooth = np.fft.irfft2(np.fft.rfft2(path) * fade, path.shape)
    fine = np.fft.irfft2(np.fft.rfft2(path) * fade * (np.sin(phase) * 0.55 - np.cos(phase) * 0.06), path.shape)
    down, right = np.gradient(smooth)
    lost = 1.8 * (down**2 + right**2)
    return cast("Floats", np.maximum(1 + fine - lost / (1 + 2 * lost), 0.05))


def illumination(rng: np.random.Generator, run: Acquisition, size: tuple[int, int]) -> Floats:
    """Return the illumination of the crop relative to the lamp level: drift, slope, and stripes of camera columns."""
    # Anew for every cell, because cells pass at different places: a pattern fixed in the crop would identify the run.
    down, right = 0.006 * rng.standard_normal(), run.slope + 0.008 * rng.standard_normal()
    stripes = 1 + rng.uniform(0.001, 0.006) * rng.standard_normal(size[1])
    slope = down * np.linspace(-0.5, 0.5, size[0])[:, None] + right * np.linspace(-0.5, 0.5, size[1])[None, :]
    drift = 1 + 0.035 * rng.standard_normal()
    return drift * (1 + slope) * stripes


def fluorescence(rng: np.random.Generator, shape: Shape, level: float, channel: int) -> Floats:
    """Return counts of one marker: offset, autofluorescence, and the expression of the cell."""
    where = shape.nucleus if MARKERS[channel - 1] == "DAPI" else shape.body * (1 - 0.6 * shape.nucleus)
    texture = 1 + 0.25 * grains(rng, where.shape, 2.0)
    total = (60 + 900 * level * np.exp(0.45 * rng.standard_normal())) * np.clip(texture, 0, None)
    return cast("Floats", 80 + ndimage.gaussian_filter(where * total, 0.9))


def darkfield(rng: np.random.Generator, shape: Shape, granularity: float, run: Acquisition) -> Floats:
    """Return counts of the laser light that a cell scatters to the side: offset, body, and granules with speckle.

    What scatters to the side is where the optical path changes within a few pixels: granules, debris, and a little of
    the rim. `granularity`, relative to that of a progenitor, is of organelles too small for brightfield to show. Cells
    differ by a factor that has nothing to do with their kind, the brightness of the laser at their place.
    """
    fine = shape.path - ndimage.gaussian_filter(shape.path, 1.5)
    speckle = np.exp(0.5 * grains(rng, shape.path.shape, 1.2))
    power = run.laser * np.exp(0.25 * rng.standard_normal())
    scattered = power * (20 * shape.body + 16000 * granularity * fine**2 * speckle * shape.body**4)
    return cast("Floats", 50 + ndimage.gaussian_filter(scattered, 1.3))


def expose(rng: np.random.Generator, counts: Floats, run: Acquisition) -> Pixels:
    """Add shot and read noise to expected counts and digitise them."""
    # Shot noise as a normal draw: like a Poisson draw at these counts, and the same on all machines.
    spread = np.sqrt(0.03 * run.gain * np.maximum(counts, 0) + run.noise**2)
    noisy = counts + spread * rng.standard_normal(counts.shape)
    return np.clip(np.rint(noisy), 0, 2**BIT_DEPTH - 1).astype(np.uint16)
