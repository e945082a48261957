"""What is measured of a cell, in words: the only things that answers may say.

A word such as `large` or `soft` says in which third of the training cells a value is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.data import features
from fatescope.data.crops import background
from fatescope.data.dataset import CellDataset
from pipelines.evaluation import confounding
from pipelines.evaluation.report import Report
from pipelines.language import prompt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

WORDS = {
    prompt.SIZE: ("small", "medium-sized", "large"),
    prompt.SHAPE: ("round", "oval", "elongated"),
    prompt.TEXTURE: ("smooth", "slightly grainy", "grainy"),
    prompt.FOCUS: ("soft", "fairly sharp", "sharp"),
}
"""Topic → word for the lowest third, the middle one, and the highest."""
SURE = ("cannot be sure", "can be fairly sure", "can be quite sure")
SURE_FROM = (0.65, 0.85)
"""Probabilities of a class from which one is fairly and quite sure of it."""
LEEWAY = 0.15
"""A word is no error where the value is so near its third, in units of the width of the middle third."""
SIZE_LEEWAY = 0.15
"""Share of the measured size by which a size that is stated may differ from it."""
FOLDS = 5


class Scale(Report):
    """How the values of cells become words: from the training cells alone."""

    limits: dict[str, tuple[float, float]]
    """Topic of WORDS → the two values between its thirds."""
    pixel_size_um: float | None
    """Width of a pixel, µm; sizes are in px without it."""

    @property
    def unit(self) -> str:
        """Return the unit of sizes."""
        return "px" if self.pixel_size_um is None else "um"

    def word(self, topic: str, value: float) -> str:
        """Return the word for a value."""
        return WORDS[topic][int(np.searchsorted(self.limits[topic], value, side="right"))]

    def allows(self, topic: str, value: float, word: str) -> bool:
        """Return whether a word is that of a value, or of one that is hardly another."""
        low, high = self.limits[topic]
        reach = LEEWAY * (high - low)
        return word in {self.word(topic, near) for near in (value - reach, value, value + reach)}


class Facts(Report):
    """What is known of one cell."""

    label: str
    """The medium that it was grown in."""
    size: float
    """Diameter of the disc with the area of the cell, in the unit of the scale."""
    elongation: float
    """Length over width of what stands out from the background, from 1."""
    grain: float
    """Energy of the Laplacian over that of the gradient."""
    focus: float
    """Energy of the Laplacian over the variance, of the native crop."""
    sure: float
    """How probable the likelier class is to a linear model on features of the cell that was not fitted on its group."""

    def value(self, topic: str) -> float:
        """Return the value behind a topic of WORDS."""
        return {
            prompt.SIZE: self.size,
            prompt.SHAPE: self.elongation,
            prompt.TEXTURE: self.grain,
            prompt.FOCUS: self.focus,
        }[topic]


def word_for_sure(probability: float) -> str:
    """Return how sure one is of a class of this probability."""
    return SURE[int(np.searchsorted(SURE_FROM, probability, side="right"))]


def measure(
    cells: CellDataset, parts: Mapping[str, Rows], pixel_size_um: float | None, seed: int
) -> tuple[Scale, dict[str, list[Facts]]]:
    """Return the scale of the cells in `parts["train"]`, and part → facts of its cells, in the order of its rows."""
    pixels = {part: _first_channel(cells, rows) for part, rows in parts.items()}
    described = {part: features.cell(of_part) for part, of_part in pixels.items()}
    columns = {part: cells.take(rows, ["label", "group", "focus"]) for part, rows in parts.items()}
    sure = _sureness(described, columns, seed)
    unit, canvas = pixel_size_um or 1.0, cells.canvas[0] * cells.canvas[1]
    facts = {
        part: [
            Facts(label=label, size=size, elongation=elongation, grain=grain, focus=focus, sure=known)
            for label, size, elongation, grain, focus, known in zip(
                columns[part]["label"].astype(str),
                (unit * 2 * np.sqrt(_feature(of_part, "area") * canvas / np.pi)).tolist(),
                elongation(pixels[part]).tolist(),
                _feature(of_part, "grain").tolist(),
                columns[part]["focus"].astype(float),
                sure[part].tolist(),
                strict=True,
            )
        ]
        for part, of_part in described.items()
    }
    thirds = {topic: np.quantile([f.value(topic) for f in facts["train"]], [1 / 3, 2 / 3]) for topic in WORDS}
    limits = {topic: (float(low), float(high)) for topic, (low, high) in thirds.items()}
    return Scale(limits=limits, pixel_size_um=pixel_size_um), facts


def elongation(pixels: npt.NDArray[np.uint16]) -> Floats:
    """Return the (n,) length over width of (n, H, W) cells on a canvas, from 1.

    Pixels that differ from the background by less than half of the contrast do not count: far from the middle, the
    noise of the background would make the shape of the cell that of its crop.
    """
    level = background(pixels)[:, None, None].astype(np.float32)
    size = np.abs(pixels - level)
    contrast = (size**2).sum((1, 2)) / np.maximum(size.sum((1, 2)), 1e-6)
    cleaned = np.where(size > contrast[:, None, None] / 2, pixels, level)
    return _feature(features.cell(cleaned.astype(np.uint16)), "elongation")


def _sureness(
    described: Mapping[str, Floats], columns: Mapping[str, pd.DataFrame], seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Return part → (n,) probability of the likelier class.

    Of a training cell by a model that has not seen its group, of others by one that has not seen their part.
    """
    labels, groups = (columns["train"][name].to_numpy(str) for name in ("label", "group"))
    fewest = min(len(np.unique(groups[labels == name])) for name in np.unique(labels))
    by_group = groups if fewest > 1 else None
    folds = min(FOLDS, fewest) if fewest > 1 else FOLDS
    fitted: Any = confounding.linear(seed)
    fitted.fit(described["train"], labels)
    return {
        part: (
            confounding.out_of_fold(of_part, labels, by_group, "linear", folds, seed)
            if part == "train"
            else fitted.predict_proba(of_part)
        ).max(1)
        for part, of_part in described.items()
    }


def _feature(described: Floats, name: str) -> Floats:
    return described[:, features.CELL.index(name)]


def _first_channel(cells: CellDataset, rows: Rows) -> npt.NDArray[np.uint16]:
    pixels: npt.NDArray[np.uint16] = cells.pixels[rows]
    return pixels if pixels.ndim == 3 else pixels[:, 0]
