"""Decide which cells train, validate and test: at random, and so that no acquisition group is on two sides.

A class whose groups are too few for a grouped split is marked as confounded; nothing falls back to the random split.
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
"""A class needs a group for each part."""

Parts = npt.NDArray[np.object_]


def split(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split
) -> tuple[Parts, Parts, dict[str, str]]:
    """Return the parts (N,) of the random and of the grouped split, and why each confounded class has none.

    Raises SplitError where a class has fewer cells than there are parts, or a group in `params.leave_out` is unknown.
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
        parts = _grouped(labels[usable], groups[usable], params)
        if parts is None:
            reason = "no grouped split leaves cells of every class in every part"
            confounded |= dict.fromkeys(np.unique(labels[usable]).tolist(), reason)
        else:
            grouped[usable] = parts
    return _random(labels, params), grouped, confounded


def leave_one_group_out(groups: npt.NDArray[np.str_]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return, for each group, its name and the rows (n,) to test on when everything else is trained on."""
    folds = LeaveOneGroupOut().split(groups, groups=groups)
    return [(str(groups[test[0]]), test) for _, test in folds]


def _check(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split) -> None:
    names, counts = np.unique(labels, return_counts=True)
    rare = {str(n): int(c) for n, c in zip(names, counts, strict=True) if c < len(SPLITS)}
    if rare:
        raise SplitError(
            f"too few cells to split: {rare}; each class needs {len(SPLITS)}, so add cells or leave it out"
        )
    unknown = sorted(set(params.leave_out) - set(groups))
    if unknown:
        raise SplitError(f"split.leave_out names {unknown}, but the groups are {sorted(set(groups))[:20]}")


def _random(labels: npt.NDArray[np.str_], params: Split) -> Parts:
    parts = np.full(len(labels), "train", dtype=object)
    rest = np.arange(len(labels))
    for part, share in (("test", params.test_share), ("validation", params.validation_share)):
        # Every class gets a cell in every part, also where the share alone would give it none.
        size = max(round(share * len(rest)), len(np.unique(labels)))
        splitter = StratifiedShuffleSplit(1, test_size=size, random_state=params.seed)
        keep, cut = next(splitter.split(rest, labels[rest]))
        parts[rest[cut]] = part
        rest = rest[keep]
    return parts


def _grouped(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], params: Split) -> Parts | None:
    parts = np.full(len(labels), "train", dtype=object)
    rest = np.arange(len(labels))
    if params.leave_out:
        held_out = np.isin(groups, params.leave_out)
        parts[held_out] = "test"
        rest = np.flatnonzero(~held_out)
        shares = [("validation", params.validation_share)]
    else:
        shares = [("test", params.test_share), ("validation", params.validation_share)]
    for part, share in shares:
        cut = _cut_groups(labels[rest], groups[rest], share, params.seed)
        if cut is None:
            return None
        parts[rest[cut]] = part
        rest = np.delete(rest, cut)
    return parts


def _cut_groups(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], share: float, seed: int
) -> npt.NDArray[np.int64] | None:
    """Return the rows of whole groups that hold every class on both sides and come nearest to `share`, or None."""
    classes = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == name])) for name in classes)
    if fewest < 2:
        return None
    folds = StratifiedGroupKFold(min(round(1 / share), fewest), shuffle=True, random_state=seed)
    fitting = [
        test
        for train, test in folds.split(labels, labels, groups)
        if len(np.unique(labels[train])) == len(np.unique(labels[test])) == len(classes)
    ]
    return min(fitting, key=lambda test: _imbalance(labels, test, share), default=None)


def _imbalance(labels: npt.NDArray[np.str_], test: npt.NDArray[np.int64], share: float) -> float:
    """Return how far the share of each class that is in `test` is from `share`, root mean square."""
    chosen = np.zeros(len(labels), bool)
    chosen[test] = True
    return math.sqrt(np.mean([(chosen[labels == name].mean() - share) ** 2 for name in np.unique(labels)]))


def main(params: ParamsFile, source: CellsFolder, target: OutFile) -> None:
    """Split the cells in the folder SOURCE and write the Parquet file TARGET.

    Cells of a class that no task names have no part in either split: they may be too few to have one.
    """
    settings = load(params)
    manifest = dataset.load(source, ["cell_id", "label", "group"]).manifest
    table = manifest[["cell_id", "label"]].assign(random=None, grouped=None)
    asked = np.flatnonzero(manifest["label"].isin({n for names in settings.dataset.tasks.values() for n in names}))
    if not len(asked):
        known = sorted(manifest["label"].unique())
        raise SplitError(f"{source} has cells of {known}, none of which a task names; change dataset.tasks")
    labels, groups = (manifest[name].to_numpy(str)[asked] for name in ("label", "group"))
    random, grouped, confounded = split(labels, groups, settings.split)
    for name, parts in zip(SCHEMES, (random, grouped), strict=True):
        table.loc[asked, name] = parts
        log.info("%s\n", pd.crosstab(table["label"], table[name]).to_string())
    for name, reason in confounded.items():
        log.warning("confounded: %s cannot be told from its acquisition groups: %s", name, reason)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(Splits(table, confounded), target)


if __name__ == "__main__":
    run(main)
