"""Cross-fitting: what networks say of cells of which they have seen neither these nor others of the same run.

The cells are dealt to folds, and for each fold the networks of all candidates are trained on the others. So every cell
is predicted once by a model that has not seen it, as the cells of the laboratory's next run will be, and all cells
teach how far the model can be trusted, not those of a few validation groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import nn

from fatescope.config import Calibrate, Train
from fatescope.data.tracks import Tracks
from fatescope.errors import ParamsError, SplitError
from fatescope.inference.ood import MahalanobisDetector
from pipelines.training.ensemble import SAMPLE, sample_classes
from pipelines.training.examples import Examples, Indices
from pipelines.training.prediction import predict

Groups = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Fold:
    """Cells to train on, and those that are held out."""

    examples: Examples
    """With the cells to train on, and none for validation."""
    held: Indices
    """Rows of the cells that the networks are then asked for."""


@dataclass(frozen=True)
class Folds:
    """The folds of a scheme's cells."""

    parts: list[Fold]
    groups: Groups
    """(N,) acquisition groups of all cells."""
    tracks: Tracks | None = None
    """Which of all cells are images of one over time; None where each is of another."""


@dataclass(frozen=True)
class Unseen:
    """What a model says of n cells that it has not seen."""

    rows: Indices
    logits: npt.NDArray[np.float32]
    """(n, K)"""
    distance: npt.NDArray[np.float32]
    """(n,) to the cells that it was trained on (`MahalanobisDetector`)."""

    @classmethod
    def join(cls, parts: "list[Unseen]") -> "Unseen":
        """Return the cells of all folds together."""
        columns = zip(*((part.rows, part.logits, part.distance) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))


def deal_folds(
    examples: Examples, groups: Groups, params: Calibrate, *, whole: bool, tracks: Tracks | None = None
) -> Folds:
    """Deal the cells of training and validation to up to `params.folds` folds with about equal shares of each class.

    With `whole`, each of the (N,) acquisition `groups` is in one fold, and there are no more folds than the rarest
    class has groups; without, all images of a cell are in one, by `tracks` of all N. Raises SplitError where a class
    would be missing from what some fold is trained on.
    """
    merged = examples.merge_validation()
    rows, targets = merged.train, merged.targets[merged.train]
    units = np.arange(len(rows)) if tracks is None else np.unique(tracks.keys[rows], return_inverse=True)[1]
    units = np.unique(groups[rows], return_inverse=True)[1] if whole else units
    first = np.unique(units, return_index=True)[1]
    least = min(len(np.unique(units[targets == k])) for k in np.unique(targets))
    for count in range(min(params.folds, least), 1, -1):
        if whole:
            parts = StratifiedGroupKFold(count, shuffle=True, random_state=params.seed).split(rows, targets, units)
        else:
            of_units = StratifiedKFold(count, shuffle=True, random_state=params.seed).split(first, targets[first])
            parts = (tuple(np.flatnonzero(np.isin(units, side)) for side in sides) for sides in of_units)
        dealt = [(rows[train], rows[held]) for train, held in parts]
        if all(len(np.unique(merged.targets[train])) == len(np.unique(targets)) for train, _ in dealt):
            return Folds([Fold(merged.only(train), held) for train, held in dealt], groups, tracks)
    # Groups with several classes may be such that only this division is left, in which both parts have every class.
    parts = examples.train, examples.validation
    if all(len(np.unique(merged.targets[part])) == len(np.unique(targets)) for part in parts):
        return Folds([Fold(merged.only(train), held) for train, held in (parts, parts[::-1])], groups, tracks)
    raise SplitError(
        "calibration needs training and validation cells in two parts that both have every class, and these cannot be "
        "divided so; add acquisition groups"
    )


def check_groups(examples: Examples, folds: Folds, settings: Iterable[Train]) -> None:
    """Raise ParamsError where a fit with `train.groups: dro` would have cells of one acquisition group only.

    Before the first fit, because the cells of a scheme may be of several groups, and those without a fold of one.
    """
    if all(member.groups != "dro" for member in settings):
        return
    for cells in (examples, *(fold.examples for fold in folds.parts)):
        if cells.groups is None or len(np.unique(cells.groups[cells.train])) < 2:
            raise ParamsError(
                "train.groups: dro weighs acquisition groups against each other, and the training cells, or those that "
                "are left without a fold of the calibration, are of one; set pooled, add groups, or set dataset.group "
                "such that paths name several"
            )


def ask(model: nn.Module, fold: Fold, directions: int) -> Unseen:
    """Return what a model that was trained on a fold says of the cells held out.

    Distances are along up to `directions` principal directions.
    """
    sample = sample_classes(fold.examples.targets, fold.examples.train)
    known = predict(model, fold.examples.pixels, sample).embedding
    detector = MahalanobisDetector.fit(known, fold.examples.targets[sample], directions)
    parts = []
    # In pieces: the embeddings of all cells of a large set would not fit into memory.
    for start in range(0, len(fold.held), SAMPLE):
        rows = fold.held[start : start + SAMPLE]
        unseen = predict(model, fold.examples.pixels, rows)
        parts.append(Unseen(rows, unseen.logits, detector.score(unseen.embedding)))
    return Unseen.join(parts)
