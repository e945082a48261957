"""Tracks: the images of one cell over time, by `dataset.track` and `dataset.time`.

A track is within an acquisition group: what two groups call by the same name are two cells. An image whose path leaves
the group of `dataset.track` empty is the only one of its cell.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.config import Dataset
from fatescope.data.dataset import CellDataset
from fatescope.errors import DataError

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
"""A time: what both Python and the browser take for the same number; Python alone reads 1_0, and the browser 0x10."""
_BYTES = 8
"""Of the hash that stands for a track."""


@dataclass(frozen=True)
class Tracks:
    """Which of N images are of one cell, and when each was taken."""

    keys: npt.NDArray[np.int64]
    """(N,) equal for images of one cell: a hash of its group and track, or of the id of a single image."""
    times: npt.NDArray[np.float64]
    """(N,) in the unit of the laboratory; 0 where there is a single image."""

    def take(self, rows: npt.NDArray[np.integer]) -> "Tracks":
        """Return the same of (n,) `rows`."""
        return Tracks(self.keys[rows], self.times[rows])

    def in_order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the (N,) rows by track and time, and where in them each track begins, (T,)."""
        order = np.lexsort((self.times, self.keys))
        keys = self.keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
        return order, starts


def read(source: CellDataset, dataset: Dataset) -> Tracks | None:
    """Return the tracks of all images of `source`; None where `dataset` names none.

    Raises DataError for a time that is no number, and for cells that were ingested by a pattern without these groups.
    """
    if dataset.track is None or dataset.time is None:
        return None
    if missing := {dataset.track, dataset.time} - set(source.table.columns):
        raise DataError(
            f"dataset.track and dataset.time name {sorted(missing)}, which these cells do not have; "
            "run the ingest stage again"
        )
    keys, times = [], []
    names = ["cell_id", "group", dataset.track, dataset.time]
    for part in source.table.read(list(dict.fromkeys(names))):
        for cell, group, track, time in zip(*(part[name].astype(str) for name in names), strict=True):
            keys.append(key_of(group, track) if track else key_of(cell, ""))
            times.append(time_of(time) if track else 0.0)
    return Tracks(np.array(keys, np.int64), np.array(times, np.float64))


def track_of(facts: Mapping[str, str], dataset: Dataset) -> str:
    """Return the track that a path spells, by the `facts` in it; empty where it is of none."""
    return "" if dataset.track is None else facts[dataset.track]


def frame_of(facts: Mapping[str, str], dataset: Dataset) -> tuple[str, float] | None:
    """Return the track and the time that a path spells, by the `facts` in it; None where it is of no track.

    Raises DataError for a time that is no number.
    """
    if dataset.time is None or not (track := track_of(facts, dataset)):
        return None
    return track, time_of(facts[dataset.time])


def time_of(text: str) -> float:
    """Return the time that a path spells; raises DataError where it is no number."""
    time = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(time):
        raise DataError(f"the time '{text}' is not a number; correct the name, or the group of dataset.time in pattern")
    return time


def key_of(group: str, track: str) -> int:
    """Return the number that stands for a track of an acquisition group, the same one on every machine."""
    digest = hashlib.blake2b(f"{group}\0{track}".encode("utf-8", "surrogateescape"), digest_size=_BYTES).digest()
    return int.from_bytes(digest, signed=True)
