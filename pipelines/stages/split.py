"""Assign cells to training, validation and test: at random, and so that no acquisition group is in two of them.

These are the two schemes; the grouped one is the one to rely on. A class with too few groups for it is marked as
confounded, and nothing falls back to the random scheme silently.

What is added later moves nothing. A group keeps its side for ever: groups are dealt in the order in which they were
imported, each by itself and the groups before it. A cell keeps its side under the random scheme: a hash of its pixels
decides, or one of its track where it has several images over time, all of which are on one side under both schemes. So
two models that were trained a year apart have unseen cells in common, on which they can be compared.

Cells outside the gates of the stage quality have no split where `quality.exclude` says so.

Of a cell there are its class, group and sides in memory, as small numbers; names and hashes are read a part at a time.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut

from fatescope import plural
from fatescope.command import CellsFolder, OutFile, ParamsFile, QualityFile, run
from fatescope.config import Params, Split, load
from fatescope.data import dataset, table_parts, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.quality_table import CellQuality
from fatescope.data.splits import SCHEMES, SPLITS, save_parts
from fatescope.data.tracks import Tracks
from fatescope.errors import SplitError

log = logging.getLogger(__name__)

MIN_GROUPS = len(SPLITS)
"""A class needs a group in each split."""

Assignment = npt.NDArray[np.object_]
"""(N,) the split of each cell: a name in SPLITS, or None for a cell that has no place under a scheme."""
Sides = npt.NDArray[np.int8]
"""(N,) the same as places in SPLITS, -1 for none."""
TRAIN, VALIDATION, TEST = range(len(SPLITS))
Hashes = npt.NDArray[np.int64]
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
            confounded[str(name)] = f"{plural.count(len(of_class), 'group')}, {MIN_GROUPS} needed"
        elif lacking:
            confounded[str(name)] = f"none of its {len(of_class)} groups is for {' or '.join(lacking)}; add groups"
    return confounded


def assign_at_random(labels: Texts, hashes: npt.NDArray[np.int64], params: Split) -> Assignment:
    """Return the random assignment of the (N,) cells, whose pixels have these hashes; see `draw_sides`."""
    names, codes = np.unique(labels, return_inverse=True)
    return np.array(SPLITS, object)[draw_sides(codes, names.tolist(), lambda: iter([hashes]), params)]


def draw_sides(
    codes: npt.NDArray[np.signedinteger], names: list[str], read: Callable[[], Iterator[Hashes]], params: Split
) -> Sides:
    """Return the side of each cell under the random scheme; -1 for cells that have no class and so no place.

    `codes` (N,) are the places of their classes in `names`, and `read` yields the hashes of their pixels, in order and
    a part at a time. Every class gets a cell in every split, also where the shares alone would give it none. Raises
    SplitError where a class has fewer cells than there are splits.
    """
    counts = _count(codes, len(names))
    if rare := {name: int(n) for name, n in zip(names, counts, strict=True) if 0 < n < len(SPLITS)}:
        raise SplitError(
            f"too few cells to split: {rare}; each class needs {len(SPLITS)}, so add cells or leave the class out"
        )
    _, validation, test = _shares(params.test_share, params.validation_share)
    limits, below = (test, test + validation), np.zeros((2, len(names)), np.int64)
    sides, start = np.full(len(codes), -1, np.int8), 0
    for hashes in read():
        place, part = _uniform(hashes, params.seed), slice(start, start + len(hashes))
        for row, side in ((1, VALIDATION), (0, TEST)):
            chosen = place < limits[row]
            below[row] += _count(codes[part][chosen], len(names))
            sides[part][chosen] = side
        sides[part][place >= limits[1]] = TRAIN
        start += len(hashes)
    sides[codes < 0] = -1
    for code in np.flatnonzero(counts):
        for_test = int(np.clip(below[0, code], 1, counts[code] - 2))
        end = int(np.clip(below[1, code], for_test + 1, counts[code] - 1))
        if [for_test, end] != below[:, code].tolist():
            rows = np.flatnonzero(codes == code)
            place = np.concatenate([_uniform(hashes, params.seed) for hashes in read()])[rows]
            rows = rows[np.argsort(place, kind="stable")]
            sides[rows[:for_test]], sides[rows[for_test:end]], sides[rows[end:]] = TEST, VALIDATION, TRAIN
    return sides


def draw_tracks(codes: npt.NDArray[np.signedinteger], names: list[str], of_cells: Tracks, params: Split) -> Sides:
    """Return the same as `draw_sides` with all images of a cell on one side.

    Shares count cells, not images. Raises SplitError where images of one cell have different classes.
    """
    drawn = np.flatnonzero(codes >= 0)
    keys, first, unit = np.unique(of_cells.keys[drawn], return_index=True, return_inverse=True)
    of_unit = codes[drawn][first]
    if len(other := drawn[codes[drawn] != of_unit[unit]]):
        two = sorted({names[codes[other[0]]], names[of_unit[unit[drawn == other[0]][0]]]})
        raise SplitError(
            f"images of one cell are of {' and '.join(two)}; dataset.track must name what is one cell of one class "
            "within its acquisition group"
        )
    sides = np.full(len(codes), -1, np.int8)
    sides[drawn] = draw_sides(of_unit, names, lambda: iter([keys]), params)[unit]
    return sides


def _count(codes: npt.NDArray[np.signedinteger], size: int) -> npt.NDArray[np.int64]:
    """Return how many of `codes` are each number from 0 to `size` - 1."""
    counts: npt.NDArray[np.int64] = np.bincount(codes[codes >= 0], minlength=size)
    return counts


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


def find_excluded(settings: Params, quality: Path | None, cells: int) -> npt.NDArray[np.bool_]:
    """Return which of the cells are outside the gates and are to be left out."""
    if not settings.quality.exclude:
        return np.zeros(cells, bool)
    if quality is None:
        raise SplitError("quality.exclude leaves out cells outside the gates; say with --quality which these are")
    outside = CellQuality.load(quality, ["outside"]).outside
    if len(outside) != cells:
        about, there = plural.count(len(outside), "cell"), plural.count(cells, "is", "are")
        raise SplitError(f"{quality} is about {about}, but there {there}; run the quality stage again")
    return outside


def main(params: ParamsFile, source: CellsFolder, target: OutFile, quality: QualityFile = None) -> None:
    """Assign cells to training, validation and test, at random and by acquisition group."""
    settings, cells = load(params), dataset.load(source, ["label", "group"])
    labels, groups = (cells.manifest[name].cat for name in ("label", "group"))
    names, group_names = labels.categories.to_numpy(str), groups.categories.to_numpy(str)
    codes, group_codes = labels.codes.to_numpy(), groups.codes.to_numpy()
    pairs = _cross(codes, group_codes, len(names), len(group_names))
    of_class, of_group = np.nonzero(pairs)
    sides = deal_groups(names[of_class], group_names[of_group], dataset.imported_groups(source), settings.split)
    # Classes of no task stay without a split: they may have too few cells for one.
    named = {name for classes in settings.dataset.tasks.values() for name in classes}
    of_task = np.isin(names, list(named))
    if not of_task.any():
        raise SplitError(
            f"{source} has cells of {sorted(names.tolist())}, none of which a task names; change dataset.tasks"
        )
    used = np.where(of_task[codes] & ~find_excluded(settings, quality, len(cells)), codes, -1)
    if lost := sorted(set(names[of_task].tolist()) - set(names[np.unique(used[used >= 0])].tolist())):
        raise SplitError(f"all cells of {lost} are outside the gates; look at the plots of the stage quality")
    of_class, of_group = np.nonzero(_cross(used, group_codes, len(names), len(group_names)))
    confounded = find_confounded(names[of_class], group_names[of_group], sides)
    of_cells = tracks.read(cells, settings.dataset)
    if of_cells is None:
        random = draw_sides(used, names.tolist(), lambda: _read_hashes(cells), settings.split)
    else:
        random = draw_tracks(used, names.tolist(), of_cells, settings.split)
    dealt = np.array([SPLITS.index(sides[name]) for name in group_names.tolist()], np.int8)
    usable = ~np.isin(names, list(confounded))
    grouped = np.where((used >= 0) & usable[used], dealt[group_codes], np.int8(-1))
    for scheme, found in zip(SCHEMES, (random, grouped), strict=True):
        log.info("%s split, cells:\n%s\n", scheme, _tabulate(used, found, names, scheme).to_string())
    for name, reason in confounded.items():
        log.warning("%s is confounded with its acquisition groups: %s", name, reason)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_parts(_tables(cells, random, grouped), confounded, target)


def _cross(
    codes: npt.NDArray[np.integer], group_codes: npt.NDArray[np.integer], classes: int, groups: int
) -> npt.NDArray[np.int64]:
    """Return the (classes, groups) numbers of cells."""
    counts = np.zeros((classes, groups), np.int64)
    for start in range(0, len(codes), table_parts.PART):
        part = slice(start, start + table_parts.PART)
        of_part = np.where(codes[part] >= 0, codes[part].astype(np.int64) * groups + group_codes[part], -1)
        counts += _count(of_part, classes * groups).reshape(classes, groups)
    return counts


def _read_hashes(cells: CellDataset) -> Iterator[Hashes]:
    for part in cells.table.read(["pixel_hash"]):
        yield part["pixel_hash"].to_numpy()


def _tabulate(codes: npt.NDArray[np.signedinteger], sides: Sides, names: Texts, scheme: str) -> pd.DataFrame:
    """Return the cells of each class on each side, without those that have none."""
    counts = _cross(np.where(sides >= 0, codes, -1), sides, len(names), len(SPLITS))
    table = pd.DataFrame(counts, pd.Index(names, name="label"), pd.Index(SPLITS, name=scheme))
    return table.loc[(table != 0).any(axis=1), (table != 0).any()].sort_index(axis=1)


def _tables(cells: CellDataset, random: Sides, grouped: Sides) -> Iterator[pd.DataFrame]:
    """Yield the rows of `Splits.table`, a part at a time."""
    start, texts = 0, np.array([*SPLITS, None], object)
    for part in cells.table.read(["cell_id", "label"]):
        rows = slice(start, start + len(part))
        found = {
            name: pd.Series(texts[of[rows]], part.index, object)
            for name, of in zip(SCHEMES, (random, grouped), strict=True)
        }
        yield part[["cell_id", "label"]].assign(**found)
        start += len(part)


if __name__ == "__main__":
    run(main)
