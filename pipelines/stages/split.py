"""Assign cells to training, validation and test: at random, and so that no acquisition group is in two of them.

These are the two schemes; the grouped one is the one to rely on. A class with too few groups for it is marked as
confounded, and nothing falls back to the random scheme silently.
"""

import logging
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedShuffleSplit

from fatescope.command import CellsFolder, OutFile, ParamsFile, run
from fatescope.config import Split, load
from fatescope.data import dataset
from fatescope.data.splits import SCHEMES, SPLITS, Splits, save
from fatescope.errors import SplitError

log = logging.getLogger(__name__)

MIN_GROUPS = len(SPLITS)
"""A class needs a group in each split."""

Assignment = npt.NDArray[np.object_]
"""(N,) the split of each cell: a name in SPLITS, or None for a cell that has no place under a scheme."""


def split(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split
) -> tuple[Assignment, Assignment, dict[str, str]]:
    """Return the random and the grouped assignment, and class → why the latter leaves it out.

    Raises SplitError where a class has fewer cells than there are splits, or a group in `params.leave_out` is unknown.
    """
    _check(labels, groups, params)
    confounded = {
        str(name): f"{count} group{'s' * (count != 1)}, {MIN_GROUPS} needed"
        for name in np.unique(labels)
        if (count := len(np.unique(groups[labels == name]))) < MIN_GROUPS
    }
    grouped = np.full(len(labels), None, dtype=object)
    usable = np.flatnonzero(~np.isin(labels, list(confounded)))
    if len(usable):
        assignment = _grouped(labels[usable], groups[usable], params)
        if assignment is None:
            reason = "no division of the groups leaves every class with training, validation and test cells"
            confounded |= dict.fromkeys(np.unique(labels[usable]).tolist(), reason)
        else:
            grouped[usable] = assignment
    return _random(labels, params), grouped, confounded


def leave_one_group_out(groups: npt.NDArray[np.str_]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return, for each group, its name and the (n,) rows to test on when all other cells are trained on."""
    folds = LeaveOneGroupOut().split(groups, groups=groups)
    return [(str(groups[test[0]]), test) for _, test in folds]


def _check(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split) -> None:
    names, counts = np.unique(labels, return_counts=True)
    rare = {str(n): int(c) for n, c in zip(names, counts, strict=True) if c < len(SPLITS)}
    if rare:
        raise SplitError(
            f"too few cells to split: {rare}; each class needs {len(SPLITS)}, so add cells or leave the class out"
        )
    unknown = sorted(set(params.leave_out) - set(groups))
    if unknown:
        raise SplitError(f"split.leave_out names {unknown}, but the groups are {sorted(set(groups))[:20]}")


def _random(labels: npt.NDArray[np.str_], params: Split) -> Assignment:
    assignment = np.full(len(labels), "train", dtype=object)
    rest = np.arange(len(labels))
    classes = len(np.unique(labels))
    for name, share, later in (("test", params.test_share, 2), ("validation", params.validation_share, 1)):
        # Every class gets a cell in every split, also where the share alone would give it none.
        size = min(max(round(share * len(rest)), classes), len(rest) - later * classes)
        splitter = StratifiedShuffleSplit(1, test_size=size, random_state=params.seed)
        keep, cut = next(splitter.split(rest, labels[rest]))
        keep, cut = _move_scarce(labels[rest], keep, cut, later)
        assignment[rest[cut]] = name
        rest = rest[keep]
    return assignment


def _move_scarce(
    labels: npt.NDArray[np.str_], keep: npt.NDArray[np.int64], cut: npt.NDArray[np.int64], later: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return `keep` and `cut` with cells moved so that each class has one in `cut` and `later` in `keep` at least."""
    for name in np.unique(labels):
        kept, taken = keep[labels[keep] == name], cut[labels[cut] == name]
        if moved := max(0, later - len(kept)):
            keep, cut = np.append(keep, taken[:moved]), cut[~np.isin(cut, taken[:moved])]
        elif not len(taken):
            keep, cut = keep[keep != kept[0]], np.append(cut, kept[0])
    return keep, cut


def _grouped(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split) -> Assignment | None:
    """Return the grouped assignment, or None where there is none with every class in every split."""
    assignment = np.full(len(labels), "train", dtype=object)
    rest = np.arange(len(labels))
    if params.leave_out:
        held_out = np.isin(groups, params.leave_out)
        assignment[held_out] = "test"
        rest = np.flatnonzero(~held_out)
        shares = [("validation", params.validation_share)]
    else:
        shares = [("test", params.test_share), ("validation", params.validation_share)]
    for name, share in shares:
        cut = _cut_groups(labels[rest], groups[rest], share, params.seed)
        if cut is None:
            return None
        assignment[rest[cut]] = name
        rest = np.delete(rest, cut)
    return assignment


def _cut_groups(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], share: float, seed: int
) -> npt.NDArray[np.int64] | None:
    """Return the rows of whole groups, about `share` of each class, so that every class is on both sides; or None.

    The share is that of one of n groups of folds, or of all but one.
    """
    classes = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == name])) for name in classes)
    if fewest < 2:
        return None
    # One fold is the smaller side, which is the other one where more than half is wanted.
    folds = StratifiedGroupKFold(min(max(2, round(1 / min(share, 1 - share))), fewest), shuffle=True, random_state=seed)
    fitting = [
        test
        for train, test in (pair if share <= 0.5 else pair[::-1] for pair in folds.split(labels, labels, groups))
        if len(np.unique(labels[train])) == len(np.unique(labels[test])) == len(classes)
    ]
    return min(fitting, key=lambda test: _imbalance(labels, test, share), default=None)


def _imbalance(labels: npt.NDArray[np.str_], test: npt.NDArray[np.int64], share: float) -> float:
    """Return the root mean square difference, over classes, between the share of cells in `test` and `share`."""
    chosen = np.zeros(len(labels), bool)
    chosen[test] = True
    return math.sqrt(np.mean([(chosen[labels == name].mean() - share) ** 2 for name in np.unique(labels)]))


def main(params: ParamsFile, source: CellsFolder, target: OutFile) -> None:
    """Assign cells to training, validation and test, at random and by acquisition group."""
    settings = load(params)
    manifest = dataset.load(source, ["cell_id", "label", "group"]).manifest
    table = manifest[["cell_id", "label"]].assign(random=None, grouped=None)
    # Classes of no task stay without a split: they may have too few cells for one.
    named = {name for classes in settings.dataset.tasks.values() for name in classes}
    rows = np.flatnonzero(manifest["label"].isin(named))
    if not len(rows):
        classes = sorted(manifest["label"].unique())
        raise SplitError(f"{source} has cells of {classes}, none of which a task names; change dataset.tasks")
    labels, groups = (manifest[name].to_numpy(str)[rows] for name in ("label", "group"))
    random, grouped, confounded = split(labels, groups, settings.split)
    for scheme, assignment in zip(SCHEMES, (random, grouped), strict=True):
        table.loc[rows, scheme] = assignment
        log.info("%s split, cells:\n%s\n", scheme, pd.crosstab(table["label"], table[scheme]).to_string())
    for name, reason in confounded.items():
        log.warning("%s is confounded with its acquisition groups: %s", name, reason)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(Splits(table, confounded), target)


if __name__ == "__main__":
    run(main)
