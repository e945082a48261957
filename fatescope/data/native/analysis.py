"""Read an analysis file of IDEAS (.daf): which .cif it is of, and which of its objects a person put into populations.

It is XML up to `</Assay>`; of what comes behind, only where the first objects of the .cif are is read (`records`). A
population is made by hand if it lists its objects (`type="T"`), or if it is a range of object numbers (`type="G"` over
all objects, with the feature Object Number and a line as its region). Populations that follow from features are not
read.
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

import numpy as np
import numpy.typing as npt

from fatescope import plural
from fatescope.data.native import xml
from fatescope.data.native.acquisition import MAX_CHANNELS
from fatescope.data.native.directories import WRAP
from fatescope.data.native.names import base_name
from fatescope.data.native.reader import NativeFile
from fatescope.data.native.records import KNOWN, read_offsets
from fatescope.data.native.source import DamageError
from fatescope.errors import DataError

SUFFIX = ".daf"
_END = b"</Assay>"
_BLOCK = 1 << 20
_MAX_POPULATIONS = 10_000
_MAX_NUMBER = 2**53
_BY_HAND, _BY_GATE = "T", "G"


@dataclass(frozen=True)
class Population:
    """Objects that a person put together."""

    name: str
    spans: npt.NDArray[np.int64] = field(repr=False)
    """(n, 2): first and last object number of each span, in order, without overlap."""

    def __len__(self) -> int:
        """Return the number of objects."""
        return int((self.spans[:, 1] - self.spans[:, 0] + 1).sum())

    def contains(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of the object `numbers` are in it."""
        if not len(self.spans):
            return np.zeros(len(numbers), bool)
        span = np.searchsorted(self.spans[:, 0], numbers, side="right") - 1
        inside: npt.NDArray[np.bool_] = (span >= 0) & (numbers <= self.spans[span, 1])
        return inside


@dataclass(frozen=True)
class Analysis:
    """What an analysis file says."""

    cif: str
    """Name of the .cif, without folders."""
    objects: int | None
    offsets: dict[int, int]
    """Object → where its directory is in the .cif, of the first objects; empty where the file does not say."""
    channels: dict[int, str]
    """Channel, from 1 → what a person called it."""
    populations: list[Population]
    """Those made by hand, in the order of the file."""


def read_analysis(file: IO[bytes], name: str) -> Analysis:
    """Read a .daf; `name` is for messages. Raises DataError where it cannot be read."""
    content = _Content()
    try:
        xml.parse(_document(file), content.start)
        return content.analysis(read_offsets(file) if content.has_binary else {})
    except DamageError as error:
        raise DataError(f"{name}: an analysis file that cannot be read: {error}; save it again in IDEAS") from error


def check_analysis(analysis: Analysis, name: str, file: NativeFile) -> None:
    """Raise DataError where an analysis called `name` is of another file than `file`.

    Raises ImageError where the file is too damaged to tell.
    """
    announced = file.acquisition.objects
    if analysis.objects is not None and announced is not None and analysis.objects != announced:
        objects = plural.count(analysis.objects, "object")
        raise DataError(f"{name}: is of {objects}, but {file.name} has {announced:,}; {_REMEDY}")
    for place in islice(file.places(), KNOWN if analysis.offsets else 0):
        expected = analysis.offsets.get(place.object, place.offset)
        if (expected - place.offset) % WRAP:
            raise DataError(
                f"{name}: is of another file called {analysis.cif} (there, object {place.object} is at byte "
                f"{expected:,}, in {file.name} at {place.offset:,}); {_REMEDY}"
            )


_REMEDY = "put the .daf beside the .cif that it was saved with, or remove it"


def _document(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the XML of a file in blocks; `file` is right behind it then."""
    file.seek(0)
    held = b""
    while block := file.read(_BLOCK):
        held += block
        if (end := held.find(_END)) >= 0:
            end += len(_END)
            file.seek(end - len(held), 1)
            yield held[:end]
            return
        # The end may begin in this block.
        yield held[: -len(_END)]
        held = held[-len(_END) :]
    yield held


class _Content:
    """Collects what is wanted of the elements of the XML."""

    def __init__(self) -> None:
        self._cif = ""
        self._objects: int | None = None
        self.has_binary = False
        """Whether what comes behind the XML is features and records of objects."""
        self._channels: dict[int, str] = {}
        self._listed: dict[str, array[int]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}
        """Region → its lowest and highest value, of lines only."""
        self._gates: dict[str, str] = {}
        """Population by object number → its region."""
        self._region, self._population = "", ""

    def start(self, names: tuple[str, ...], attributes: dict[str, str]) -> None:
        """Take in one element."""
        match names[-1]:
            case "Assay":
                self.has_binary = attributes.get("binaryfeatures", "").lower() == "true"
            case "SOD":
                self._cif = base_name(attributes.get("file", ""))
                self._objects = _whole(attributes.get("objcount", ""))
            case "image":
                channel = _whole(attributes.get("physicalChannel", ""))
                if channel is not None and channel < MAX_CHANNELS:
                    self._channels[channel + 1] = attributes.get("name", "")
            case "Region":
                self._region = attributes.get("label", "") if attributes.get("type") == "line" else ""
            case "axy" if self._region:
                self._widen(self._region, attributes.get("x", ""))
            case "Pop":
                self._begin_population(attributes)
            case "ob" if self._population in self._listed:
                number = _whole(attributes.get("O", ""))
                if number is None:
                    raise DamageError(f"the population '{self._population}' has an object without a number")
                self._listed[self._population].append(number)

    def _widen(self, region: str, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise DamageError(f"the region '{region}' has a corner at '{text}'")
        low, high = self._ranges.get(region, (math.inf, -math.inf))
        self._ranges[region] = min(low, value), max(high, value)

    def _begin_population(self, attributes: dict[str, str]) -> None:
        self._population, kind = attributes.get("name", ""), attributes.get("type")
        if len(self._listed) + len(self._gates) >= _MAX_POPULATIONS:
            raise DamageError(f"it has more than {_MAX_POPULATIONS:,} populations")
        if kind == _BY_HAND:
            self._listed.setdefault(self._population, array("q"))
        elif (
            kind == _BY_GATE
            and attributes.get("base") == "All"
            and attributes.get("fx") == "Object Number"
            and not attributes.get("fy")
        ):
            self._gates[self._population] = attributes.get("region", "")

    def analysis(self, offsets: dict[int, int]) -> Analysis:
        """Return what was collected, and the `offsets`."""
        if not self._cif:
            raise DamageError("it does not name its .cif (SOD)")
        ranges = {name: self._ranges[region] for name, region in self._gates.items() if region in self._ranges}
        whole = {
            name: (math.ceil(min(max(low, 0), _MAX_NUMBER)), math.floor(max(min(high, _MAX_NUMBER), -1)))
            for name, (low, high) in ranges.items()
        }
        gates = {name: np.array([span][: span[0] <= span[1]], np.int64).reshape(-1, 2) for name, span in whole.items()}
        listed = {name: _spans(np.frombuffer(numbers, np.int64)) for name, numbers in self._listed.items()}
        populations = [Population(name, spans) for name, spans in (gates | listed).items()]
        return Analysis(self._cif, self._objects, offsets, self._channels, populations)


def _spans(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return object numbers as spans of consecutive ones."""
    ordered = np.unique(numbers)
    breaks = np.flatnonzero(np.diff(ordered) > 1)
    first = ordered[np.concatenate([[0], breaks + 1])] if len(ordered) else ordered
    last = ordered[np.concatenate([breaks, [len(ordered) - 1]])] if len(ordered) else ordered
    return np.stack([first, last], axis=1)


def _whole(text: str) -> int | None:
    """Return a whole number from 0, None where a text is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else None
