"""Folds for cross-validation over samples: no sample is on both sides, so that knowing a sample is of no use."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

FOLDS = 5
"""The most folds; there are fewer where a class is in fewer samples."""


@dataclass(frozen=True)
class Folds:
    """Which cells are left out together."""

    place: Indices
    """(N,) the fold of each cell."""
    kind: Literal["samples", "cells"]
    """Samples are left out whole, or single cells, where some class is in one sample alone."""
    why: str | None
    """Why samples cannot be left out."""

    @property
    def names(self) -> list[int]:
        """Return the folds that hold cells."""
        return [int(fold) for fold in np.unique(self.place)]


def assign(targets: Indices, samples: Texts, classes: list[str], seed: int = 0, most: int = FOLDS) -> Folds:
    """Deal N cells of the (N,) classes `targets` and `samples` to folds, with each class in all but one at least."""
    held = {name: np.unique(samples[targets == k]) for k, name in enumerate(classes)}
    lone = [name for name, of_class in held.items() if len(of_class) == 1]
    if not lone:
        count = max(2, min(most, *(len(of_class) for of_class in held.values())))
        place = _deal_samples(targets, samples, len(classes), count)
        if all(len(np.unique(place[targets == k])) > 1 for k in range(len(classes))):
            return Folds(place, "samples", None)
    why = (
        f"'{lone[0]}' has labels in one sample alone ({held[lone[0]][0] or 'without a name'})"
        if lone
        else "the classes are in too few samples to leave any out"
    )
    return Folds(_deal_cells(targets, len(classes), most, seed), "cells", why)


def _deal_samples(targets: Indices, samples: Texts, classes: int, count: int) -> Indices:
    """Return the (N,) folds of cells: each sample, the largest first, goes where its classes are scarcest."""
    names, of_cell = np.unique(samples, return_inverse=True)
    table = np.zeros((len(names), classes))
    np.add.at(table, (of_cell, targets), 1.0)
    table /= np.maximum(table.sum(0), 1)
    held, folds = np.zeros((count, classes)), np.zeros(len(names), np.int64)
    for row in np.argsort(-table.sum(1), kind="stable"):
        fold = int(np.argmin((held * (table[row] > 0)).sum(1) + 1e-3 * held.sum(1)))
        folds[row], held[fold] = fold, held[fold] + table[row]
    return folds[of_cell]


def _deal_cells(targets: Indices, classes: int, most: int, seed: int) -> Indices:
    rng, place = np.random.default_rng(seed), np.zeros(len(targets), np.int64)
    counts = np.bincount(targets, minlength=classes)
    folds = int(np.clip(counts.min(), 2, most))
    for k in range(classes):
        rows = rng.permutation(np.flatnonzero(targets == k))
        place[rows] = np.arange(len(rows)) % folds
    return place
