"""How much each API key was used: quotas, and what the audit log says of it; shared by the gateways of one machine.

A file that all of them have open has a slot for each key. A request with a key that has a quota takes a lock of the
system, which goes with the process however that ends; others are counted in the process, and added every few seconds.
What a key was used in an hour becomes one entry of the audit log, or a few where gateways are late.

The file is read and written, not mapped: the system ends a process that touches a part of a map whose file was cut off,
or that finds no room on the disk. Where the file was deleted or replaced, all go on with the one that is there.
"""

import fcntl
import logging
import math
import os
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.api import key_file
from service.api.key_file import Key
from service.settings import ServiceSettings, variable

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

FILE = "usage.bin"
HOUR_S = 3600
_SLOT = struct.Struct("<40s7q")
_SLOTS = 2048
_SIZE = 128
"""Bytes of a slot."""
_NAME, _DAMAGED = re.compile(key_file.NAME.encode()), b"-"
_MOST = 1 << 40
"""More than any count, and than the time for 30,000 years."""


@dataclass
class _Counts:
    """What a slot has: of the current period of the quota, and of an hour for the audit log."""

    name: bytes
    period: int = 0
    """Its beginning, seconds since the epoch, as that of the hour."""
    requests: int = 0
    cells: int = 0
    hour: int = 0
    accepted: int = 0
    refused: int = 0
    hour_cells: int = 0


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
        self._path = folder / FILE
        self._file, self._identity = _open(self._path)
        self._offsets: dict[str, int] = {}
        self._threads = threading.Lock()
        self._problem = ""
        """What kept counts from the file the last time."""
        with self._locked():  # not every file system can
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
            for offset, counts in self._taken():
                if counts.hour < now - now % HOUR_S:
                    self._finish(counts)
                    self._store(offset, counts)
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
    def _renew(counts: _Counts, key: Key, now: float) -> None:
        period = int(now) - int(now) % key.period_s
        if counts.period != period:
            counts.period, counts.requests, counts.cells = period, 0, 0

    @contextmanager
    def _counts(self, name: str, now: float) -> Iterator[_Counts]:
        with self._locked():
            offset, counts = self._slot(name.encode())
            hour = int(now) - int(now) % HOUR_S
            if counts.hour != hour:
                self._finish(counts)
                counts.hour = hour
            yield counts
            self._store(offset, counts)

    def _finish(self, counts: _Counts) -> None:
        if counts.accepted or counts.refused or counts.hour_cells:
            self._done.append(
                Use(counts.name.decode(), counts.hour, counts.accepted, counts.refused, counts.hour_cells)
            )
        counts.accepted = counts.refused = counts.hour_cells = 0

    def _slot(self, name: bytes) -> tuple[int, _Counts]:
        """Return the offset of the slot of a key, one that it may take where it has none, and what is in it."""
        known = self._offsets.get(name.decode())
        if known is not None:
            counts = _unpack(self._read(known, _SIZE))
            if counts.name == name:
                return known, counts
        taken = list(self._taken())
        own = next((slot for slot in taken if slot[1].name == name), None)
        if own is None:
            # A free one; or, where none is, that of a key which has not been used for longest.
            offset = len(taken) * _SIZE
            if len(taken) == _SLOTS:
                offset, outdated = min(taken, key=lambda slot: slot[1].hour)
                self._finish(outdated)
            own = offset, _Counts(name)
        self._offsets[name.decode()] = own[0]
        return own

    def _taken(self) -> Iterator[tuple[int, _Counts]]:
        """Yield the slots that keys have, with their offsets; they are taken one after the other."""
        content = self._read(0, _SLOTS * _SIZE)
        for offset in range(0, len(content), _SIZE):
            counts = _unpack(content[offset : offset + _SIZE])
            if not counts.name:
                return
            yield offset, counts

    def _read(self, offset: int, size: int) -> bytes:
        """Return a part of the file, which may have been cut off."""
        try:
            return os.pread(self._file, size, offset)
        except OSError as error:
            self._note_problem(error)
            return b""

    def _store(self, offset: int, counts: _Counts) -> None:
        try:
            os.pwrite(self._file, _SLOT.pack(*vars(counts).values()), offset)
        except OSError as error:
            self._note_problem(error)
        else:
            self._problem = ""

    def _note_problem(self, error: OSError) -> None:
        """Say once that uses are not counted, as on a full disk; no request is refused for it."""
        if self._problem != str(error):
            self._problem = str(error)
            log.error("%s: uses of keys are not counted, quotas not kept: %s", self._path, error)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            self._lock()
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        """Lock the file that the other gateways find too."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            while _identify(self._path) != self._identity:
                fresh, identity = _open(self._path)
                os.close(self._file)
                self._file, self._identity = fresh, identity
                # Another may have replaced it until it is locked.
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            # What is open is counted in for as long as it lasts.
            self._note_problem(error)


def _open(path: Path) -> tuple[int, tuple[int, int]]:
    """Return a descriptor of the file, which is made if need be, and what it is known by; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    status = os.fstat(file)
    return file, (status.st_dev, status.st_ino)


def _identify(path: Path) -> tuple[int, int] | None:
    """Return what the file at a path is known by, None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _unpack(slot: bytes) -> _Counts:
    """Return what is in a slot, of which the end may be missing."""
    name, *counts = _SLOT.unpack_from(slot.ljust(_SLOT.size, b"\0"))
    name = name.rstrip(b"\0")
    if name and not _NAME.fullmatch(name):
        # Of a damaged file: it is counted anew, under a name that no key has.
        return _Counts(_DAMAGED)
    return _Counts(name, *counts) if all(0 <= count <= _MOST for count in counts) else _Counts(name)
