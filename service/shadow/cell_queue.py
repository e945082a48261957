"""The cells that wait for a challenger: a limited number of them, what does not fit is dropped and counted."""

import threading
from collections import Counter, deque
from dataclasses import dataclass, replace

from fatescope.inference.uncertainty import Assessment
from service.inference.decoded_cell import DecodedCell
from service.inference.served_model import ServedModel
from service.shadow import metrics
from service.shadow.frames import Array

MAX_CELLS = 1_000
"""Cells that wait for the challenger; more are dropped."""
MAX_PIXELS = 50_000_000
"""And their pixels, of images that may be large."""


@dataclass(frozen=True, eq=False)
class Entry:
    """Cells of a request that the champion has answered."""

    time: float
    """Seconds since the epoch."""
    request_id: str
    model: ServedModel
    first: int
    """Which row of the call the first of them is."""
    cells: list[DecodedCell]
    distance: Array
    assessment: Assessment

    @property
    def pixels(self) -> int:
        """Return how many pixels the images have."""
        return sum(cell.native.size for cell in self.cells)

    def split(self, count: int) -> tuple["Entry", "Entry"]:
        """Return the first `count` cells, and the others."""
        return self._part(0, count), self._part(count, len(self.cells))

    def _part(self, start: int, stop: int) -> "Entry":
        chosen = slice(start, stop)
        own = self.assessment
        assessment = Assessment(own.probabilities[chosen], own.sets[chosen], own.distance[chosen], own.verdicts[chosen])
        return replace(
            self, first=self.first + start, cells=self.cells[chosen], distance=self.distance[chosen],
            assessment=assessment,
        )  # fmt: skip


class CellQueue:
    """Entries in the order in which they came; may be used from any thread."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._changing = threading.Lock()
        self._cells = 0
        """Here, or taken and not done yet."""
        self._pixels = 0
        """Of those here."""
        self._dropped: Counter[tuple[str, str]] = Counter()

    @property
    def idle(self) -> bool:
        """Return whether all cells that came are done."""
        return self._cells == 0

    def put(self, entry: Entry, version: str) -> None:
        """Append cells for `version` to answer, or drop them where there are too many."""
        task, cells, pixels = entry.model.champion.task, len(entry.cells), entry.pixels
        with self._changing:
            full = self._cells + cells > MAX_CELLS or self._pixels + pixels > MAX_PIXELS
            if full:
                self._dropped[task, version] += cells
            else:
                self._entries.append(entry)
                self._cells += cells
                self._pixels += pixels
        if full:
            metrics.DROPPED.labels(task, version, "queue").inc(cells)

    def take(self, most: int) -> list[Entry]:
        """Return the next `most` cells or fewer, of one champion; `finish` or `drop` says what has become of each."""
        entries, cells = list[Entry](), 0
        with self._changing:
            while self._entries and cells < most:
                entry = self._entries[0]
                if entries and entry.model.champion != entries[0].model.champion:
                    break
                self._entries.popleft()
                if cells + len(entry.cells) > most:
                    entry, rest = entry.split(most - cells)
                    self._entries.appendleft(rest)
                entries.append(entry)
                cells += len(entry.cells)
                self._pixels -= entry.pixels
        return entries

    def finish(self, cells: int) -> None:
        """Note that so many of the cells that were taken were answered."""
        with self._changing:
            self._cells -= cells

    def drop(self, task: str, version: str, cells: int, reason: str) -> None:
        """Count cells that were taken and are not compared."""
        with self._changing:
            self._cells -= cells
            self._dropped[task, version] += cells
        metrics.DROPPED.labels(task, version, reason).inc(cells)

    def clear(self) -> None:
        """Drop all entries, with the models and images that they hold."""
        with self._changing:
            left, self._pixels = list(self._entries), 0
            self._entries.clear()
        for entry in left:
            self.drop(entry.model.champion.task, "", len(entry.cells), "failed")

    def take_dropped(self, task: str, version: str) -> int:
        """Return how many cells were dropped since the last time."""
        with self._changing:
            return self._dropped.pop((task, version), 0)
