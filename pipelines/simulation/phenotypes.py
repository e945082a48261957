"""The mean shape of the cells that each medium produces."""

from dataclasses import dataclass
from math import pi

MARKERS = ("GFAP", "MBP", "TUJ1", "Nestin", "DAPI")
"""What the fluorescence channels show, from channel 2 on."""


@dataclass(frozen=True)
class Phenotype:
    """The mean shape of a kind of cell, around which individual cells scatter."""

    radius: float
    """Of the soma, px."""
    aspect: float
    """Long over short axis of the soma."""
    rough: float
    """Waviness of the outline, share of the radius."""
    processes: float
    """Number of processes that leave the soma."""
    poles: tuple[float, ...]
    """Where they leave it, radians from the long axis; empty: all around."""
    length: float
    """Of a process, px."""
    thick: float
    """Half width of a process at its root, px."""
    taper: float
    """Share of that width lost towards the tip."""
    grain: float
    """Size of granules, px."""
    granularity: float
    """Optical path of granules over that of the soma."""
    eccentric: float
    """Distance of the nucleus from the middle, share of the radius; the soma tapers the other way."""
    patchy: float
    """Unevenness of the rim, share of its optical path."""
    markers: tuple[float, ...]
    """Expression of each of MARKERS, 0 to 1."""


PROGENITOR = Phenotype(
    radius=8.1, aspect=1.15, rough=0.03, processes=2.2, poles=(), length=2.0, thick=1.2, taper=0.5, grain=1.4,
    granularity=0.14, eccentric=0.15, patchy=0.06, markers=(0.15, 0.05, 0.1, 0.9, 0.8),
)  # fmt: skip
"""A neural stem cell, from which every cell starts."""

# Large, rough, with short blunt protrusions and coarse granules.
ASTROCYTE = Phenotype(
    radius=8.4, aspect=1.18, rough=0.06, processes=4.0, poles=(), length=2.8, thick=2.1, taper=0.1, grain=1.9,
    granularity=0.20, eccentric=0.15, patchy=0.06, markers=(0.9, 0.05, 0.1, 0.2, 0.8),
)  # fmt: skip
# Small, round, with several thin processes and a patchy rim.
OLIGODENDROCYTE = Phenotype(
    radius=7.9, aspect=1.08, rough=0.03, processes=5.0, poles=(), length=7.2, thick=0.75, taper=0.3, grain=1.4,
    granularity=0.13, eccentric=0.15, patchy=0.22, markers=(0.1, 0.9, 0.1, 0.2, 0.8),
)  # fmt: skip
# Smooth and polar: one or two tapering neurites at one end, the nucleus at the other.
RA_SHH = Phenotype(
    radius=8.1, aspect=1.25, rough=0.02, processes=1.3, poles=(0.0, 0.5), length=9.0, thick=1.7, taper=0.8, grain=1.4,
    granularity=0.12, eccentric=0.45, patchy=0.06, markers=(0.1, 0.05, 0.9, 0.2, 0.8),
)  # fmt: skip
# Two opposite neurites and a finer texture.
NT3 = Phenotype(
    radius=8.1, aspect=1.28, rough=0.02, processes=2.1, poles=(0.0, pi), length=7.5, thick=1.4, taper=0.7, grain=1.0,
    granularity=0.12, eccentric=0.1, patchy=0.06, markers=(0.1, 0.05, 0.8, 0.2, 0.8),
)  # fmt: skip

# Small, with short blunt processes all around, a ragged outline and coarse granules.
MICROGLIA = Phenotype(
    radius=6.9, aspect=1.1, rough=0.09, processes=5.0, poles=(), length=3.2, thick=1.1, taper=0.6, grain=2.1,
    granularity=0.26, eccentric=0.2, patchy=0.1, markers=(0.05, 0.05, 0.05, 0.1, 0.8),
)  # fmt: skip
# A spindle: long soma, one thin process at each end.
SCHWANN = Phenotype(
    radius=7.6, aspect=1.6, rough=0.02, processes=2.0, poles=(0.0, pi), length=5.5, thick=0.9, taper=0.4, grain=1.5,
    granularity=0.15, eccentric=0.1, patchy=0.12, markers=(0.3, 0.6, 0.1, 0.2, 0.8),
)  # fmt: skip
# Large and angular, with three thick tapering neurites.
DOPAMINERGIC = Phenotype(
    radius=8.9, aspect=1.2, rough=0.02, processes=3.0, poles=(0.0, 2.1, 4.2), length=8.0, thick=1.7, taper=0.75,
    grain=1.3, granularity=0.15, eccentric=0.3, patchy=0.06, markers=(0.1, 0.05, 0.9, 0.1, 0.8),
)  # fmt: skip
# Large, flat and long, with hardly any structure.
FIBROBLAST = Phenotype(
    radius=9.4, aspect=1.45, rough=0.04, processes=1.2, poles=(0.0, pi), length=3.0, thick=2.4, taper=0.3, grain=1.6,
    granularity=0.08, eccentric=0.1, patchy=0.04, markers=(0.05, 0.05, 0.05, 0.2, 0.8),
)  # fmt: skip

MEDIA = {
    "a": ASTROCYTE,
    "o": OLIGODENDROCYTE,
    "n": RA_SHH,
    "nt3": NT3,
    "p": PROGENITOR,
    "m": MICROGLIA,
    "s": SCHWANN,
    "d": DOPAMINERGIC,
    "f": FIBROBLAST,
}
"""Medium, as file names spell it → the phenotype that it produces; their order is part of the seed of each cell."""
PAPER = ("a", "o", "n", "nt3")
"""The media of arXiv 2312.06665."""

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
"""Trait → standard deviation of its logarithm among cells of one kind and maturity."""
