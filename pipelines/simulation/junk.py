"""What an instrument images beside good single cells, planted at a known share so that quality control can be tested.

Each is drawn from random numbers of its own, so that the other cells do not change with the share of junk.
"""

from dataclasses import dataclass, replace

import numpy as np

from pipelines.simulation.optics import BIT_DEPTH, Acquisition
from pipelines.simulation.shapes import Floats, Shape, debris

KINDS = ("doublet", "debris", "focus", "clipped", "saturated")
DEFOCUS = (1.7, 2.6)
"""Range of the defocus of a cell out of focus, on the scale of `Acquisition.focus`, above or below the plane."""
EXPOSURE = (1.0, 1.5)
"""Range of the background of a saturated image, times the most that the camera can tell."""


@dataclass(frozen=True)
class Junk:
    """What is wrong with one image, and the random numbers that say how."""

    kind: str
    """One of KINDS."""
    rng: np.random.Generator

    @classmethod
    def draw(cls, rng: np.random.Generator, share: float) -> "Junk | None":
        """Return junk with the probability `share`, each kind as often as the others."""
        return cls(KINDS[rng.integers(len(KINDS))], rng) if rng.random() < share else None

    def move(self, grid: Floats, size: tuple[int, int]) -> Floats:
        """Return the coordinates (2, H, W) of an object that one side of a crop of this `size` cuts off."""
        if self.kind != "clipped":
            return grid
        axis, side = self.rng.integers(2), self.rng.choice((-1, 1))
        # The middle is up to 5 px inside the crop, and a soma has a radius of some 8 px.
        shift = np.zeros(2)
        shift[axis] = side * (size[axis] / 2 - self.rng.uniform(0, 5))
        shift[1 - axis] = self.rng.uniform(-0.3, 0.3) * size[1 - axis]
        return grid - shift[:, None, None]

    def replace(self, shape: Shape, grid: Floats) -> Shape:
        """Return fragments in the middle of the (2, H, W) `grid` instead of the `shape` of a cell."""
        if self.kind != "debris":
            return shape
        return debris(self.rng, grid, distance=(0, 5))

    def disturb(self, run: Acquisition) -> Acquisition:
        """Return the state of the instrument at the moment of this image."""
        if self.kind == "saturated":
            return replace(run, lamp=self.rng.uniform(*EXPOSURE) * 2**BIT_DEPTH)
        return run

    def defocus(self, focus: float) -> float:
        """Return the defocus of this image, whose cell would have `focus`."""
        return float(self.rng.choice((-1, 1)) * self.rng.uniform(*DEFOCUS)) if self.kind == "focus" else focus
