"""Assign cells to training, validation and test: at random, and so that no acquisition group is in two of them.

These are the two schemes; the grouped one is the one to rely on. A class with too few groups for it is marked as
confounded, and nothing falls back to the random scheme silently.

What is added later moves nothing. A group keeps its side for ever: groups are dealt in the order in which they were
imported, each by itself and the groups before it. A cell keeps its side under the random scheme: a hash of its pixels
decides. So two models that were trained a year apart have unseen cells in common, on which they can be compared.
"""

import hashlib
import logging
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut

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
Texts = npt.NDArray[np.str_]
Floats = npt.NDArray[np.floating]


def deal_groups(labels: Texts, groups: Texts, imported: Iterable[str], params: Split) -> dict[str, str]:
    """Return the split of each acquisition group of the (N,) cells.

    `imported` has groups in the order in which they were imported; those that it lacks follow, in the order of their
    names. A group goes where its classes have no group yet, else where most groups are missing to the shares, and a
    little by chance, which the seed decides: without it, the first days of an experiment would all be in training.
    Sizes do not count, because they change when cells are added.
    """
    classes_of = {
        str(name): sorted(of_group.unique()) for name, of_group in pd.Series(labels).groupby(groups, sort=True)
    }
    left_out = set(params.leave_out)
    if unknown := sorted(left_out - set(classes_of)):
        raise SplitError(f"split.leave_out names {unknown}, but the groups are {sorted(classes_of)[:20]}")
    wanted = _shares(0.0 if left_out else params.test_share, params.validation_share)
    allowed = wanted > 0
    dealt = {name: np.zeros(len(SPLITS)) for name in np.unique(labels)}
    sides = dict.fromkeys(left_out, "test")
    for group in dict.fromkeys([*imported, *classes_of]):
        if group in sides or group not in classes_of:
            continue
        of_classes = np.array([dealt[name] for name in classes_of[group]])
        begun = of_classes.sum(1, keepdims=True)
        bare = ((of_classes == 0) & (begun > 0)).sum(0)
        missing = (wanted * (begun + 1) - of_classes).sum(0)
        side = np.lexsort((missing + _chance(group, params.seed), bare, allowed))[-1]
        sides[group] = SPLITS[side]
        for name in classes_of[group]:
            dealt[name][side] += 1
    return sides


def find_confounded(labels: Texts, groups: Texts, sides: dict[str, str]) -> dict[str, str]:
    """Return class → why its groups, which are dealt to `sides`, cannot split it."""
    confounded = {}
    for name in np.unique(labels):
        of_class = np.unique(groups[labels == name])
        lacking = [split for split in SPLITS if split not in {sides[group] for group in of_class}]
        if len(of_class) < MIN_GROUPS:
            confounded[str(name)] = f"{len(of_class)} group{'s' * (len(of_class) != 1)}, {MIN_GROUPS} needed"
        elif lacking:
            confounded[str(name)] = f"none of its {len(of_class)} groups is for {' or '.join(lacking)}; add groups"
    return confounded


def assign_at_random(labels: Texts, hashes: npt.NDArray[np.int64], params: Split) -> Assignment:
    """Return the random assignment of the (N,) cells, whose pixels have these hashes.

    Every class gets a cell in every split, also where the shares alone would give it none. Raises SplitError where a
    class has fewer cells than there are splits.
    """
    names, counts = np.unique(labels, return_counts=True)
    if rare := {str(n): int(c) for n, c in zip(names, counts, strict=True) if c < len(SPLITS)}:
        raise SplitError(
            f"too few cells to split: {rare}; each class needs {len(SPLITS)}, so add cells or leave the class out"
        )
    place, assignment = _uniform(hashes, params.seed), np.full(len(labels), "train", dtype=object)
    _, validation, test = _shares(params.test_share, params.validation_share)
    for name, count in zip(names, counts, strict=True):
        rows = np.flatnonzero(labels == name)
        rows = rows[np.argsort(place[rows], kind="stable")]
        for_test = int(np.clip(np.searchsorted(place[rows], test), 1, count - 2))
        end = int(np.clip(np.searchsorted(place[rows], test + validation), for_test + 1, count - 1))
        assignment[rows[:for_test]], assignment[rows[for_test:end]] = "test", "validation"
    return assignment


def _shares(test: float, validation: float) -> Floats:
    """Return the (3,) shares of SPLITS; that of validation is one of what the test leaves."""
    return np.array([(1 - test) * (1 - validation), (1 - test) * validation, test])


def _chance(group: str, seed: int) -> Floats:
    """Return (3,) numbers from 0 to 1 that `group` and the seed decide."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])]).random(len(SPLITS))


def _uniform(hashes: npt.NDArray[np.int64], seed: int) -> Floats:
    """Return (N,) numbers from 0 to 1 that hashes and the seed decide (SplitMix64, Steele et al. 2014)."""
    [key] = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    x = hashes.astype(np.uint64) + key  # unsigned arithmetic wraps, as the method wants
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Floats = (x ^ (x >> np.uint64(31))) / 2.0**64
    return uniform


def leave_one_group_out(groups: npt.NDArray[np.str_]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return, for each group, its name and the (n,) rows to test on when all other cells are trained on."""
    folds = LeaveOneGroupOut().split(groups, groups=groups)
    return [(str(groups[test[0]]), test) for _, test in folds]


def main(params: ParamsFile, source: CellsFolder, target: OutFile) -> None:
    """Assign cells to training, validation and test, at random and by acquisition group."""
    settings = load(params)
    manifest = dataset.load(source, ["cell_id", "label", "group", "pixel_hash"]).manifest
    table = manifest[["cell_id", "label"]].assign(random=None, grouped=None)
    labels, groups = (manifest[name].to_numpy(str) for name in ("label", "group"))
    sides = deal_groups(labels, groups, dataset.imported_groups(source), settings.split)
    # Classes of no task stay without a split: they may have too few cells for one.
    named = {name for classes in settings.dataset.tasks.values() for name in classes}
    rows = np.flatnonzero(manifest["label"].isin(named))
    if not len(rows):
        classes = sorted(manifest["label"].unique())
        raise SplitError(f"{source} has cells of {classes}, none of which a task names; change dataset.tasks")
    labels, groups = labels[rows], groups[rows]
    confounded = find_confounded(labels, groups, sides)
    usable = ~np.isin(labels, list(confounded))
    table.loc[rows, "random"] = assign_at_random(labels, manifest["pixel_hash"].to_numpy()[rows], settings.split)
    table.loc[rows[usable], "grouped"] = [sides[group] for group in groups[usable]]
    for scheme in SCHEMES:
        log.info("%s split, cells:\n%s\n", scheme, pd.crosstab(table["label"], table[scheme]).to_string())
    for name, reason in confounded.items():
        log.warning("%s is confounded with its acquisition groups: %s", name, reason)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(Splits(table, confounded), target)


if __name__ == "__main__":
    run(main)
