"""Native files of instruments in the data folder: the class and the acquisition group of each of their objects.

An object has the class of the hand-made population that it is in, where an analysis file (.daf) beside its file has
populations that are called like classes; objects in none of them are left out then. Otherwise it has the class that
the path of the file says. Its acquisition group is the run that the file names.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.config import Dataset
from fatescope.data.native.analysis import SUFFIX, Analysis, Population, check_analysis, read_analysis
from fatescope.data.native.names import is_native
from fatescope.data.native.reader import NativeFile
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import Labels, find_label
from fatescope.errors import DataError, ImageError

NOT_A_CELL = -1
"""Code of an object that has no class, or is not read."""
_SMALLEST_OBJECT = 60
"""Bytes: a file cannot hold more objects than fit into it."""

TABLES = (".csv", ".tsv")
"""Endings of tables, which say something of images and are none."""
Codes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class NativeCells:
    """What is known of the objects of a native file before they are read."""

    path: str
    """Relative to the data folder."""
    channels: tuple[int, ...]
    """Those that the model sees, from 1, in its order."""
    facts: dict[str, str]
    """Named group of the pattern → value in the path, empty where the path says none."""
    group: str
    """The acquisition group of all of them."""
    labels: tuple[str, ...]
    """Their classes; the code of an object is an index in it."""
    objects: int
    """How many there are, as the file announces."""
    runs: tuple[str, ...] = ()
    """The raw files that its objects came from; several of a merged file."""
    tagged: tuple[tuple[Population, int], ...] = field(default=(), repr=False)
    """Populations made by hand and the code of each; none where the path says the class of all."""

    @property
    def channel(self) -> int:
        """Return the first channel, by which an object is described."""
        return self.channels[0]

    def codes(self, numbers: npt.NDArray[np.int64]) -> Codes:
        """Return the codes of objects with these numbers: NOT_A_CELL for one in no population, or in two classes."""
        if not self.tagged:
            return np.zeros(len(numbers), np.int16)
        codes, several = np.full(len(numbers), NOT_A_CELL, np.int16), np.zeros(len(numbers), bool)
        for population, code in self.tagged:
            inside = population.contains(numbers)
            several |= inside & (codes != NOT_A_CELL) & (codes != code)
            codes[inside] = code
        codes[several] = NOT_A_CELL
        return codes


def find_overlaps(files: Iterable[NativeCells]) -> list[str]:
    """Return which acquisitions are in several groups, because a merged file lies beside a file that it was merged of.

    Its objects are there twice then, and cells of one acquisition in training and test.
    """
    of_run = defaultdict[str, dict[str, str]](dict)
    for cells in files:
        for run in cells.runs:
            of_run[run].setdefault(cells.group, cells.path)
    return [
        f"the acquisition '{run}' is in {' and in '.join(paths.values())}, which are different groups: keep the merged "
        "file or its parts, not both"
        for run, paths in of_run.items()
        if len(paths) > 1
    ]


class NativeFiles:
    """Finds out what the native files below a folder hold."""

    def __init__(self, dataset: Dataset, folder: Path, labels: Labels) -> None:
        self._dataset, self._folder, self._labels = dataset, folder, labels
        self._parser = PathParser(dataset, labels)
        self._groups = re.compile(dataset.pattern).groupindex
        self._known: tuple[str, dict[str, Analysis | DataError]] = ("/", {})
        """The analysis files of the folder that was asked for last."""

    def read(self, path: str) -> NativeCells | ImageError | DataError:
        """Return what is known of the file at `path`, or why its objects are no cells.

        An ImageError is a fault of the file, a DataError says that nothing gives the class.
        """
        try:
            with (self._folder / path).open("rb") as raw:
                file = NativeFile(raw, path)
                channels = file.choose_channels(self._dataset.inputs, self._dataset.kinds)
                objects = _count(file, raw.seek(0, 2))
                tagged = self._tagged(path, file)
        except (ImageError, DataError) as error:
            return error
        except OSError as error:
            return ImageError("unreadable", f"{path}: cannot be read: {error.strerror}")
        parsed = self._parser.read_native(path, channels[0])
        if parsed is None and not tagged:
            return DataError(
                f"{path}: dataset.pattern does not match this path, and no .daf beside it has hand-made populations "
                "that are called like classes; put the class into the path, or tag cells in IDEAS and save the .daf"
            )
        stated = find_label(self._labels, path)
        group = (
            (stated.group if stated else "")
            or file.acquisition.run
            or (parsed.group if parsed else "")
            or PurePosixPath(path).stem
        )
        facts = dict.fromkeys(self._groups, "") | (parsed.facts if parsed else {})
        if "channel" in facts:
            facts["channel"] = str(channels[0])
        # A cytometer sees a cell once.
        facts |= {group: "" for group in (self._dataset.track, self._dataset.time) if group is not None}
        labels = tuple(dict.fromkeys(label for _, label in tagged)) or (parsed.label if parsed else "",)
        codes = tuple((population, labels.index(label)) for population, label in tagged)
        return NativeCells(path, channels, facts, group, labels, objects, file.acquisition.runs, codes)

    def _tagged(self, path: str, file: NativeFile) -> list[tuple[Population, str]]:
        """Return the populations of the analysis of a file that are called like classes, and those classes."""
        folder, _, name = path.rpartition("/")
        found = self._analyses(folder)
        # Of several, that which is called like the file is meant.
        own = [of for of in found if PurePosixPath(of).stem.lower() == PurePosixPath(name).stem.lower()]
        named = [of for of, its in found.items() if isinstance(its, Analysis) and its.cif.lower() == name.lower()]
        if len(named) > 1 and set(named) & set(own):
            named = [of for of in named if of in own]
        if len(named) > 1:
            raise DataError(f"{path}: {' and '.join(named)} both say what is in it; keep one of them beside it")
        for of in named or own:
            analysis = found[of]
            if isinstance(analysis, DataError):
                raise analysis
            classes = [(population, self._parser.class_of(population.name)) for population in analysis.populations]
            tagged = [(population, label) for population, label in classes if label is not None]
            if tagged and of in named:
                check_analysis(analysis, of, file)
                return tagged
            if tagged and not self._is_beside(analysis, folder):
                raise DataError(
                    f"{of}: is of {analysis.cif}, which is not beside it; if {name} is that file, call it that again, "
                    "else remove the .daf"
                )
        return []

    def is_image(self, path: str) -> bool:
        """Return whether a path may be of an image.

        Native files are none, nor is an analysis that says what is in one beside it, nor a table, such as a plate map.
        """
        return not is_native(path) and not path.lower().endswith(TABLES) and not self._is_analysis(path)

    def _is_analysis(self, path: str) -> bool:
        if not path.lower().endswith(SUFFIX):
            return False
        folder, _, _ = path.rpartition("/")
        analysis = self._analyses(folder).get(path)
        return isinstance(analysis, Analysis) and self._is_beside(analysis, folder)

    def _is_beside(self, analysis: Analysis, folder: str) -> bool:
        """Return whether the file that an analysis in `folder` is of is there too."""
        return analysis.cif.lower() in {entry.name.lower() for entry in (self._folder / folder).iterdir()}

    def _analyses(self, folder: str) -> dict[str, Analysis | DataError]:
        """Return the analysis files in a folder by their paths, or why they cannot be read."""
        if self._known[0] != folder:
            paths = sorted((self._folder / folder).iterdir()) if (self._folder / folder).is_dir() else []
            prefix = f"{folder}/" if folder else ""
            self._known = (
                folder,
                {
                    prefix + path.name: _analysis(path, prefix + path.name)
                    for path in paths
                    if path.suffix.lower() == SUFFIX and path.is_file()
                },
            )
        return self._known[1]


def copy_alone(source: Path, folder: Path) -> int:
    """Copy one native file, and the analysis files beside it that are of it, into `folder`; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [source]
    for path in source.parent.iterdir():
        if path.suffix.lower() == SUFFIX and path.is_file():
            analysis = _analysis(path, path.name)
            of_it = isinstance(analysis, Analysis) and analysis.cif.lower() == source.name.lower()
            # One of its name that cannot be read comes along, to be told of.
            paths += [path] if of_it or path.stem.lower() == source.stem.lower() else []
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return len(paths)


def _analysis(path: Path, name: str) -> Analysis | DataError:
    try:
        with path.open("rb") as raw:
            return read_analysis(raw, name)
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{name}: cannot be read: {error.strerror}")


def _count(file: NativeFile, size: int) -> int:
    """Return how many objects a file announces, or has where it does not announce any."""
    announced = file.acquisition.objects
    if announced is None:
        announced = sum(1 for _ in file.places())
    if not announced:
        raise ImageError("empty", f"{file.name}: holds no object; save it again")
    if announced * _SMALLEST_OBJECT > size:
        objects, size_of = plural.count(announced, "object"), plural.count(size, "byte")
        raise ImageError("truncated", f"{file.name}: announces {objects} in {size_of}; copy or save it again")
    return announced
