"""Which files below the data folder are read: those of the input channel, or a share of them."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.config import Dataset, Ingest
from fatescope.data import names
from fatescope.data.export_folder import list_files
from fatescope.data.native.names import is_native
from fatescope.data.paths import ParsedPath, PathParser
from fatescope.data.sidecar import Labels
from fatescope.data.tracks import key_of
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.native_cells import NativeCells, NativeFiles, find_overlaps
from pipelines.ingestion.native_ranges import ObjectRange, cells_of, wanted_ranges
from pipelines.ingestion.survey import describe_untagged, explain_no_cells

log = logging.getLogger(__name__)

Refusal = tuple[str, str, str]
"""Path, code and reason of a file that was refused."""
UNREADABLE = "unreadable"
"""The code of what is no file that can be opened."""
NO_CLASS = "name"
"""The code of a file whose path says no class."""
CellFiles = str | tuple[str, ...]
"""The file of a cell; of several channels, one for each in the order of the model, empty where there is none."""
Job = list[CellFiles] | ObjectRange
"""What one process reads at a time: files, or objects of one native file."""


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
    """The stratum, class and group, of each cell in a file, or object of a native file, as a number."""
    native: dict[str, NativeCells] = field(default_factory=dict)
    """Path → what is known of the objects of a native file."""
    unlabelled: list[Refusal] = field(default_factory=list)
    """Native files of which nothing says the class of the objects; they count as unmatched."""
    objects: list[CellFiles] = field(default_factory=list)
    """The files of each object where the model sees several channels; `strata` has them after the native files."""
    examples: list[str] = field(default_factory=list)
    """An image of each class and group."""
    tracks: "array[int]" = field(default_factory=lambda: array("q"))
    """A number for each of `strata`, equal for images of one cell over time; empty where `dataset.track` is null."""


def count_files(dataset: Dataset, source: Path, labels: Labels) -> FileCounts:
    """Count the files below `source` by what their paths and the `labels` beside them say.

    The paths of cells are not kept: those of a million files would be most of the memory that ingest takes. Only where
    the model sees several channels are they, because the files of an object may be far from each other.
    Raises DataError where no file is of the input channel.
    """
    parser, strata, numbers = PathParser(dataset, labels), array("i"), dict[tuple[str, str], int]()
    followed = array("q")
    examples = dict[int, str]()
    channels, unmatched, unreadable, files = Counter[str](), list[str](), list[Refusal](), 0
    natives, native, unlabelled = NativeFiles(dataset, source, labels), dict[str, NativeCells](), list[Refusal]()
    objects = ObjectFiles(parser, len(dataset.kinds), strata, followed)
    for path in list_files(source, lambda path, reason: unreadable.append((path, UNREADABLE, f"{path}: {reason}"))):
        files += 1
        if is_native(path):
            found = natives.read(path)
            if isinstance(found, NativeCells):
                native[path] = found
                of_label = [numbers.setdefault((label, found.group), len(numbers)) for label in found.labels]
                codes = cells_of(found, source)
                followed.extend(_alone(len(strata), len(codes), dataset))
                strata.frombytes(np.array(of_label, np.dtype("i"))[codes].tobytes())
                if untagged := found.objects - len(codes):
                    of_all = f"of {plural.count(found.objects, 'object')}"
                    log.warning("%s: %s", path, describe_untagged(untagged, of_all))
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
        elif (place := parser.input_index(parsed)) is not None:
            stratum = numbers.setdefault((parsed.label, parsed.group), len(numbers))
            examples.setdefault(stratum, path)
            objects.add(path, place, stratum, track_of(path, parsed, dataset))
        else:
            channels[parsed.facts["channel"]] += 1
    _warn_of_other_channels(dataset, native)
    _warn_of_overlaps(native)
    strata.extend(objects.own_strata)
    followed.extend(objects.own_tracks)
    if not strata:
        raise DataError(explain_no_cells(dataset, source, channels, unmatched, [*unlabelled, *unreadable]))
    unreadable += objects.repeated
    return FileCounts(
        files,
        unmatched,
        unreadable,
        channels.total(),
        strata,
        native,
        unlabelled,
        objects.list(),
        list(examples.values()),
        followed,
    )


def track_of(path: str, parsed: ParsedPath, dataset: Dataset) -> int | None:
    """Return a number that images of one cell have in common; None where `dataset` has no tracks."""
    if dataset.track is None:
        return None
    track = parsed.facts[dataset.track]
    return key_of(parsed.group, track) if track else key_of(path, "")


def _alone(first: int, count: int, dataset: Dataset) -> range:
    """Return the numbers of `count` cells that have one image each, from `first` on; none without tracks."""
    return range(first, first + count) if dataset.track is not None else range(0)


class ObjectFiles:
    """The files of objects of which the model sees several channels, in the order in which objects are met.

    Of one channel only the strata and tracks are kept.
    """

    def __init__(self, parser: PathParser, channels: int, strata: "array[int]", tracks: "array[int]") -> None:
        """Add to `strata` and `tracks` where there is one channel."""
        self._parser, self._channels = parser, channels
        self._paths = dict[str, list[str]]()
        self.strata = strata if channels == 1 else array("i")
        """The stratum of each object."""
        self.tracks = tracks if channels == 1 else array("q")
        """The track of each object; empty where there are none."""
        self.repeated = list[Refusal]()
        """Files of a channel of which the object has a file already."""

    def add(self, path: str, place: int, stratum: int, track: int | None) -> None:
        """Add the file of an object of the `stratum` and `track`, of the channel at `place`."""
        if self._channels == 1:
            self._add_object(stratum, track)
            return
        key = self._parser.object_key(path)
        if key not in self._paths:
            self._paths[key] = [""] * self._channels
            self._add_object(stratum, track)
        paths = self._paths[key]
        if paths[place]:
            reason = f"{path}: is the same channel of the same object as {paths[place]}; keep one of them"
            self.repeated.append((path, UNREADABLE, reason))
        else:
            paths[place] = path

    def _add_object(self, stratum: int, track: int | None) -> None:
        self.strata.append(stratum)
        if track is not None:
            self.tracks.append(track)

    @property
    def own_tracks(self) -> "array[int]":
        """Return the tracks of those objects."""
        return self.tracks if self._channels > 1 else array("q")

    @property
    def own_strata(self) -> "array[int]":
        """Return the strata of objects that are not among those of all yet."""
        return self.strata if self._channels > 1 else array("i")

    def list(self) -> list[CellFiles]:
        """Return the files of each object."""
        return [tuple(paths) for paths in self._paths.values()]


def _warn_of_other_channels(dataset: Dataset, native: dict[str, NativeCells]) -> None:
    """Warn of native files in which a brightfield lamp lit another channel than that of the settings."""
    others = [
        (cells.path, *pair)
        for cells in native.values()
        for pair in names.other_channels(cells.channels, dataset.inputs)
    ]
    if others:
        path, channel, name = others[0]
        log.warning(
            "%s read in another channel than dataset.channels says (%s), such as %s in channel %d: "
            "there the brightfield lamp was; change the setting if that is not brightfield",
            plural.count(len(others), "native file is", "native files are"), name, path, channel,
        )  # fmt: skip


def _warn_of_overlaps(native: dict[str, NativeCells]) -> None:
    for overlap in find_overlaps(native.values()):
        log.warning("%s", overlap)


def draw_share(strata: "array[int]", tracks: "array[int]", params: Ingest) -> npt.NDArray[np.bool_]:
    """Return which files are kept: `params.share` of each stratum, at least one; of a cell with several, all or none.

    `tracks` has the cell of each, or is empty where each file is of another.
    """
    kept = np.ones(len(strata), bool)
    cells = np.frombuffer(tracks, np.int64) if len(tracks) else np.arange(len(strata))
    if params.share < 1:
        rng, numbers = np.random.default_rng(params.seed), np.frombuffer(strata, np.dtype("i"))
        for stratum in np.unique(numbers):
            rows = np.flatnonzero(numbers == stratum)
            names, place = np.unique(cells[rows], return_inverse=True)
            left_out = len(names) - max(1, round(params.share * len(names)))
            kept[rows[np.isin(place, rng.choice(len(names), left_out, replace=False))]] = False
    return kept


def input_jobs(
    dataset: Dataset, source: Path, files: FileCounts, kept: npt.NDArray[np.bool_], size: int
) -> Iterator[Job]:
    """Yield the `kept` cells, `size` at a time, in the order in which `count_files` met them."""
    native, several = files.native, len(dataset.kinds) > 1
    parser, natives, paths, at = PathParser(dataset), NativeFiles(dataset, source, {}), list[CellFiles](), 0
    for path in list_files(source, _ignore):
        if path in native:
            if paths:
                yield paths
                paths = []
            counted = len(cells_of(native[path], source))
            yield from wanted_ranges(native[path], source, size, kept[at : at + counted])
            at += counted
        elif not several and natives.is_image(path) and (parsed := parser.read(path)) and parser.is_input(parsed):
            if kept[at]:
                paths.append(path)
            at += 1
            if len(paths) == size:
                yield paths
                paths = []
    if paths:
        yield paths
    wanted = [paths for paths, keeps in zip(files.objects, kept[at:], strict=True) if keeps] if several else []
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _ignore(_path: str, _reason: str) -> None:
    """Pass over what `count_files` has listed."""
