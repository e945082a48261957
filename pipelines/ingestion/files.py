"""Which files below the data folder are read: those of the input channel, or a share of them."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset, Ingest
from fatescope.data import names
from fatescope.data.native.names import is_native
from fatescope.data.paths import PathParser, list_files
from fatescope.data.sidecar import Labels
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.native_cells import NativeCells, NativeFiles
from pipelines.ingestion.native_ranges import ObjectRange, cells_of, wanted_ranges
from pipelines.ingestion.survey import UNTAGGED, explain_no_cells

log = logging.getLogger(__name__)

Refusal = tuple[str, str, str]
"""Path, code and reason of a file that was refused."""
UNREADABLE = "unreadable"
"""The code of what is no file that can be opened."""
NO_CLASS = "name"
"""The code of a file whose path says no class."""
Job = list[str] | ObjectRange
"""What one process reads at a time: paths of files, or objects of one native file."""


@dataclass(frozen=True)
class FileCounts:
    """Files below the data folder, before any is opened."""

    files: int
    unmatched: list[str]
    """Paths that `dataset.pattern` does not match."""
    unreadable: list[Refusal]
    """Links that lead nowhere, folders that cannot be listed, and the like; they are no `files`."""
    other_channels: int
    """Files of channels that the model does not see."""
    strata: "array[int]"
    """The stratum, class and group, of each file of the input channel, or object of a native file, as a number."""
    native: dict[str, NativeCells] = field(default_factory=dict)
    """Path → what is known of the objects of a native file."""
    unlabelled: list[Refusal] = field(default_factory=list)
    """Native files of which nothing says the class of the objects; they count as unmatched."""


def count_files(dataset: Dataset, source: Path, labels: Labels) -> FileCounts:
    """Count the files below `source` by what their paths and the `labels` beside them say.

    The paths of cells are not kept: those of a million files would be most of the memory that ingest takes.
    Raises DataError where no file is of the input channel.
    """
    parser, strata, numbers = PathParser(dataset, labels), array("l"), dict[tuple[str, str], int]()
    channels, unmatched, unreadable, files = Counter[str](), list[str](), list[Refusal](), 0
    natives, native, unlabelled = NativeFiles(dataset, source, labels), dict[str, NativeCells](), list[Refusal]()
    for path in list_files(source, lambda path, reason: unreadable.append((path, UNREADABLE, f"{path}: {reason}"))):
        files += 1
        if is_native(path):
            found = natives.read(path)
            if isinstance(found, NativeCells):
                native[path] = found
                of_label = [numbers.setdefault((label, found.group), len(numbers)) for label in found.labels]
                codes = cells_of(found, source)
                strata.frombytes(np.array(of_label, np.dtype("l"))[codes].tobytes())
                if len(codes) < found.objects:
                    log.warning("%s: %d of %d objects %s", path, found.objects - len(codes), found.objects, UNTAGGED)
            elif isinstance(found, ImageError):
                unreadable.append((path, UNREADABLE, str(found)))
            else:
                unlabelled.append((path, NO_CLASS, str(found)))
            continue
        if not natives.is_image(path):
            continue
        parsed = parser.read(path)
        if parsed is None:
            unmatched.append(path)
        elif parser.is_input(parsed):
            strata.append(numbers.setdefault((parsed.label, parsed.group), len(numbers)))
        else:
            channels[parsed.facts["channel"]] += 1
    _warn_of_other_channels(dataset, native)
    if not strata:
        raise DataError(explain_no_cells(dataset, source, channels, unmatched, [*unlabelled, *unreadable]))
    return FileCounts(files, unmatched, unreadable, channels.total(), strata, native, unlabelled)


def _warn_of_other_channels(dataset: Dataset, native: dict[str, NativeCells]) -> None:
    """Warn of native files in which a brightfield lamp lit another channel than that of the settings."""
    wanted = dataset.input_channel
    others = [cells for cells in native.values() if wanted and not names.same_channel(str(cells.channel), wanted)]
    if others:
        log.warning(
            "%d native files are read in another channel than dataset.input_channel (%s), such as %s in channel %d: "
            "there the brightfield lamp was; change the setting if that is not brightfield",
            len(others), wanted, others[0].path, others[0].channel,
        )  # fmt: skip


def draw_share(strata: "array[int]", params: Ingest) -> npt.NDArray[np.bool_]:
    """Return which files are kept: `params.share` of each stratum, at least one."""
    kept = np.ones(len(strata), bool)
    if params.share < 1:
        rng, numbers = np.random.default_rng(params.seed), np.frombuffer(strata, np.dtype("l"))
        for stratum in np.unique(numbers):
            rows = np.flatnonzero(numbers == stratum)
            left_out = len(rows) - max(1, round(params.share * len(rows)))
            kept[rng.choice(rows, left_out, replace=False)] = False
    return kept


def input_jobs(
    dataset: Dataset, source: Path, native: dict[str, NativeCells], kept: npt.NDArray[np.bool_], size: int
) -> Iterator[Job]:
    """Yield the `kept` cells of the input channel, `size` at a time, in the order in which `count_files` met them."""
    parser, natives, paths, at = PathParser(dataset), NativeFiles(dataset, source, {}), list[str](), 0
    for path in list_files(source, _ignore):
        if path in native:
            if paths:
                yield paths
                paths = []
            counted = len(cells_of(native[path], source))
            yield from wanted_ranges(native[path], source, size, kept[at : at + counted])
            at += counted
        elif natives.is_image(path) and (parsed := parser.read(path)) and parser.is_input(parsed):
            if kept[at]:
                paths.append(path)
            at += 1
            if len(paths) == size:
                yield paths
                paths = []
    if paths:
        yield paths


def _ignore(_path: str, _reason: str) -> None:
    """Pass over what `count_files` has listed."""
