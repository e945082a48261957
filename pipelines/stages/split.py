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

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope import plural
from fatescope.command import CellsFolder, OutFile, ParamsFile, QualityFile, run
from fatescope.config import Params, load
from fatescope.data import dataset, table_parts, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.quality_table import CellQuality
from fatescope.data.splits import SCHEMES, SPLITS, save_parts
from fatescope.errors import SplitError
from pipelines.splitting.at_random import Hashes, draw_sides, draw_tracks
from pipelines.splitting.by_group import deal_groups, find_confounded
from pipelines.splitting.sides import Sides, Texts, count

log = logging.getLogger(__name__)


def find_excluded(settings: Params, quality: Path | None, cells: int) -> npt.NDArray[np.bool_]:
    """Return which of the cells are outside the gates and are to be left out."""
    if not settings.quality.exclude:
        return np.zeros(cells, bool)
    if quality is None:
        raise SplitError("quality.exclude leaves out cells outside the gates; say with --quality which these are")
    outside = CellQuality.load(quality, ["outside"]).outside
    if len(outside) != cells:
        about, are = plural.count(len(outside), "cell"), plural.agree(cells, "is", "are")
        raise SplitError(f"{quality} is about {about}, but there {are} {cells:,}; run the quality stage again")
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
        counts += count(of_part, classes * groups).reshape(classes, groups)
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
