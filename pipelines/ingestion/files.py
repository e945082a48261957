"""Which files below the data folder are read: those of the input channel, or a share of them."""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset, Ingest
from fatescope.data.paths import PathParser, list_files
from fatescope.data.sidecar import Labels
from fatescope.errors import DataError
from pipelines.ingestion.survey import explain_no_cells

Refusal = tuple[str, str, str]
"""Path, code and reason of a file that was refused."""
UNREADABLE = "unreadable"
"""The code of what is no file that can be opened."""


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
    """The stratum, class and group, of each file of the input channel, as a number."""


def count_files(dataset: Dataset, source: Path, labels: Labels) -> FileCounts:
    """Count the files below `source` by what their paths and the `labels` beside them say.

    The paths of cells are not kept: those of a million files would be most of the memory that ingest takes.
    Raises DataError where no file is of the input channel.
    """
    parser, strata, numbers = PathParser(dataset, labels), array("l"), dict[tuple[str, str], int]()
    channels, unmatched, unreadable, files = Counter[str](), list[str](), list[Refusal](), 0
    for path in list_files(source, lambda path, reason: unreadable.append((path, UNREADABLE, f"{path}: {reason}"))):
        files += 1
        parsed = parser.read(path)
        if parsed is None:
            unmatched.append(path)
        elif parser.is_input(parsed):
            strata.append(numbers.setdefault((parsed.label, parsed.group), len(numbers)))
        else:
            channels[parsed.facts["channel"]] += 1
    if not strata:
        raise DataError(explain_no_cells(dataset, source, channels, unmatched, unreadable))
    return FileCounts(files, unmatched, unreadable, channels.total(), strata)


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


def input_paths(dataset: Dataset, source: Path, kept: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Yield the paths of the input channel that are `kept`, in the order in which `count_files` met them."""
    parser = PathParser(dataset)
    matched = (
        path for path in list_files(source, _ignore) if (parsed := parser.read(path)) and parser.is_input(parsed)
    )
    return compress(matched, kept)


def _ignore(_path: str, _reason: str) -> None:
    """Pass over what `count_files` has listed."""
