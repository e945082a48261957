"""Labelled cells to train on, and the batches of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config import Train
from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.data.dataset import CellDataset, class_indices
from fatescope.data.splits import Splits
from fatescope.errors import SplitError
from pipelines.training import distributed

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Labelled cells by reference: `pixels` may be a memory map that is never read whole."""

    pixels: npt.NDArray[np.uint16]
    """(N, H, W), or (N, C, H, W) of several channels."""
    targets: Indices
    """(N,) index of the class; arbitrary in rows that are neither in `train` nor in `validation`."""
    train: Indices
    """Rows of the training cells."""
    validation: Indices
    """Rows of the validation cells, which choose the epoch; empty for a fit of a fixed number of epochs."""
    kinds: tuple[ChannelKind, ...] = (BRIGHTFIELD,)
    """The kind of each channel."""
    groups: Indices | None = None
    """(N,) number of the acquisition group of each cell; None where they were not read."""

    def merge_validation(self) -> "Examples":
        """Return the same cells with those of validation among the training cells, rows in ascending order."""
        return self.only(np.sort(np.concatenate([self.train, self.validation])))

    def only(self, rows: Indices) -> "Examples":
        """Return the same cells with those of `rows` to train on, and none for validation."""
        return replace(self, train=rows, validation=rows[:0])


def load_examples(cells: CellDataset, splits: Splits, scheme: str, classes: list[str]) -> Examples:
    """Return the training and validation cells of `classes` in `scheme`; cells of other classes have the target -1."""
    targets = class_indices(cells.manifest["label"], classes)
    train, validation = (splits.indices(scheme, split, classes) for split in ("train", "validation"))
    known = "group" in cells.manifest
    groups = pd.Categorical(cells.manifest["group"]).codes.astype(np.int64) if known else None
    return Examples(cells.pixels, targets, train, validation, cells.kinds, groups)


def load_search_examples(cells: CellDataset, splits: Splits, classes: list[str]) -> Examples:
    """Return what hyperparameters are searched on: the first scheme's cells, without the test cells of any scheme.

    The models of all schemes are fitted with what the search finds, and none may have been chosen by its test cells.
    Raises SplitError where a class would be left without cells.
    """
    scheme, *others = splits.available(classes)
    examples = load_examples(cells, splits, scheme, classes)
    tested = [splits.indices(other, "test", classes) for other in others]
    train, validation = (
        np.setdiff1d(rows, np.concatenate([rows[:0], *tested])) for rows in (examples.train, examples.validation)
    )
    for split, rows in (("training", train), ("validation", validation)):
        if missing := [name for k, name in enumerate(classes) if k not in examples.targets[rows]]:
            raise SplitError(
                f"no {split} cells of {missing} are left to search hyperparameters on, because the others test the "
                f"model of the random scheme; add cells, or set tune.trials: 0"
            )
    return replace(examples, train=train, validation=validation)


def class_weights(targets: Indices, classes: int) -> Weights:
    """Return (K,) weights inversely proportional to the number of cells of each class, with mean 1 over the cells."""
    counts = np.bincount(targets, minlength=classes)
    weights: Weights = len(targets) / (classes * np.maximum(counts, 1))
    return weights


def steps_per_epoch(cells: int, batch_size: int) -> int:
    """Return the number of batches in an epoch of so many training cells."""
    # A last, smaller batch is left out: batch normalisation fails on a single cell.
    return max(1, cells // batch_size)


def iterate_batches(examples: Examples, weights: Weights, params: Train, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield this process's share of each batch of an epoch, as rows in ascending order, which suits a memory map.

    With `balance: sampling` cells are drawn with replacement, with the (K,) class `weights` as their chances.
    """
    rows = examples.train
    if params.balance == "sampling":
        chances = weights[examples.targets[rows]]
        order = rng.choice(rows, len(rows), p=chances / chances.sum())
    else:
        order = rng.permutation(rows)
    steps = steps_per_epoch(len(rows), params.batch_size)
    for batch in np.array_split(order[: steps * params.batch_size], steps):
        yield np.sort(batch[distributed.rank() :: distributed.world_size()])
