"""How much each API key was used: quotas, and what the audit log says of it; shared by the gateways of one machine.

A request with a key that has a quota is counted in a file that all of them share (`service.api.usage_file`), under its
lock; others are counted in the process, and added every few seconds. What a key was used in an hour becomes one entry
of the audit log, or a few where gateways are late.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.api.key_file import Key
from service.api.usage_file import Counts, UsageFile
from service.settings import ServiceSettings, variable

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

FILE = "usage.bin"
HOUR_S = 3600


@dataclass(slots=True)
class _Own:
    """What only this process has counted of a key."""

    key: Key
    requests: int = 0
    cells: int = 0


@dataclass(frozen=True)
class Use:
    """What a key was used in an hour."""

    key: str
    hour: int
    accepted: int
    refused: int
    cells: int


def open_usage(settings: ServiceSettings) -> "Usage | None":
    """Open what the gateways of this machine count in: beside the audit log, where it stays when they end.

    Where that cannot be written to, or there is none, in the folder of the metrics of this start, or nowhere.
    """
    metrics_folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for folder in (settings.audit_log, Path(metrics_folder) if metrics_folder else None):
        try:
            if folder is not None:
                return Usage(folder)
        except OSError as error:
            log.error("%s: uses of keys cannot be counted there (%s)", folder, error.strerror)  # noqa: TRY400  no traceback: the operator is told what to do
    log.error("quotas of keys are not kept: set %s to a folder", variable("audit_log"))
    return None


class Usage:
    """Counts requests and cells of keys; may be used from any thread."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the same for all gateways; raises OSError where the file cannot be made or locked there."""
        self._file, self._threads = UsageFile(folder / FILE), threading.Lock()
        with self._file.locked():  # not every file system can
            pass
        self._done = list[Use]()
        self._own = dict[tuple[str, int], _Own]()
        """Name of a key without a quota, and hour → what only this process has counted yet."""

    def admit(self, key: Key) -> int | None:
        """Count a request with `key`; return the seconds until its quota begins anew where that is used up."""
        now = time.time()
        if not key.is_limited:
            self._note(key, now, 1, 0)
            return None
        with self._counts(key.name, now) as counts:
            self._renew(counts, key, now)
            over = (key.requests is not None and counts.requests >= key.requests) or (
                key.cells is not None and counts.cells >= key.cells
            )
            if over:
                counts.refused += 1
                return max(1, math.ceil(counts.period + key.period_s - now))
            counts.requests += 1
            counts.accepted += 1
        return None

    def refuse(self, name: str) -> None:
        """Count a request that was refused for another reason."""
        with self._counts(name, time.time()) as counts:
            counts.refused += 1

    def add_cells(self, key: Key, cells: int) -> None:
        """Count cells that were classified for `key`."""
        now = time.time()
        if not key.is_limited:
            self._note(key, now, 0, cells)
            return
        with self._counts(key.name, now) as counts:
            self._renew(counts, key, now)
            counts.cells += cells
            counts.hour_cells += cells

    def used(self, key: Key) -> tuple[int, int]:
        """Return the requests and the cells of `key` in its current period; without a quota, about so many."""
        now = time.time()
        self._merge()
        with self._counts(key.name, now) as counts:
            self._renew(counts, key, now)
            return counts.requests, counts.cells

    def take_finished(self) -> list[Use]:
        """Return what was used in hours that are over, each once, whichever gateway counted it."""
        now = int(time.time())
        self._merge()
        with self._locked():
            for offset, counts in self._file.taken():
                if counts.hour < now - now % HOUR_S:
                    self._finish(counts)
                    self._file.store(offset, counts)
            done, self._done = self._done, []
        return done

    def put_back(self, uses: list[Use]) -> None:
        """Keep what could not be entered into the audit log for the next time."""
        with self._locked():
            self._done = uses + self._done

    def _note(self, key: Key, now: float, requests: int, cells: int) -> None:
        """Count for a key without a quota in this process alone, which takes no lock of the system."""
        place = key.name, int(now) - int(now) % HOUR_S
        with self._threads:
            counted = self._own.get(place)
            if counted is None:
                counted = self._own[place] = _Own(key)
            counted.requests += requests
            counted.cells += cells

    def _merge(self) -> None:
        """Add what this process alone has counted to what all have."""
        with self._threads:
            own, self._own = self._own, {}
        for (name, hour), counted in own.items():
            with self._counts(name, hour) as counts:
                self._renew(counts, counted.key, hour)
                counts.requests += counted.requests
                counts.cells += counted.cells
                counts.accepted += counted.requests
                counts.hour_cells += counted.cells

    @staticmethod
    def _renew(counts: Counts, key: Key, now: float) -> None:
        period = int(now) - int(now) % key.period_s
        if counts.period != period:
            counts.period, counts.requests, counts.cells = period, 0, 0

    @contextmanager
    def _counts(self, name: str, now: float) -> Iterator[Counts]:
        with self._locked():
            offset, counts = self._file.find(name.encode())
            if counts.name != name.encode():
                self._finish(counts)
                counts = Counts(name.encode())
            hour = int(now) - int(now) % HOUR_S
            if counts.hour != hour:
                self._finish(counts)
                counts.hour = hour
            yield counts
            self._file.store(offset, counts)

    def _finish(self, counts: Counts) -> None:
        if counts.accepted or counts.refused or counts.hour_cells:
            self._done.append(
                Use(counts.name.decode(), counts.hour, counts.accepted, counts.refused, counts.hour_cells)
            )
        counts.accepted = counts.refused = counts.hour_cells = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads, self._file.locked():
            yield
