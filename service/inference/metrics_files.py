"""The files in which the processes of the service count metrics, and what becomes of those of processes that ended.

prometheus-client gives each process a file for each kind of metric (`counter_PID.db`) and sums them all. Gauges of a
process go with it. Its counts are added to `KIND_ended.db`, because a counter must not fall, and its files are deleted:
however often a process is started again, there are as many files as there are processes.
"""

import fcntl
import logging
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from fatescope.atomic import replacing

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that names the folder; read by prometheus-client."""
_LOCK = "metrics.lock"
_ENDED, _COMPLETE = "ended", ".complete"
_SUMMED = {"counter", "histogram", "summary"}
_LIVE_GAUGES = "gauge_live"
_LENGTH, _HEADER, _NUMBERS = struct.Struct("i"), struct.Struct("ii"), struct.Struct("dd")


def tidy() -> None:
    """Add up and delete the files of processes that have ended, where there are any."""
    if folder := os.environ.get(FOLDER):
        with tidied(Path(folder)):
            pass


@contextmanager
def tidied(folder: Path) -> Iterator[None]:
    """Do the same in `folder`, which no other process changes until the block ends."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(folder))
            _tidy(folder)
        # Metrics are read all the same.
        except OSError as error:
            log.error("%s: files of processes that have ended stay there (%s)", folder, error)  # noqa: TRY400  the error says it all
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _tidy(folder: Path) -> None:
    # Of a process that was killed while it did what follows.
    for path in folder.glob(f"*{_COMPLETE}"):
        kind, _, pid = path.name.removesuffix(_COMPLETE).rpartition("_")
        _take_over(folder, kind, pid)
    for path in folder.glob("*.db"):
        kind, _, pid = path.stem.rpartition("_")
        if not pid.isdecimal() or _is_alive(int(pid)):
            continue
        if kind in _SUMMED:
            _add_up(folder, kind, pid)
        elif kind.startswith(_LIVE_GAUGES):
            path.unlink(missing_ok=True)


def _add_up(folder: Path, kind: str, pid: str) -> None:
    """Add the counts of a process to those of all that have ended."""
    sums = defaultdict[str, float](float)
    for path in (folder / f"{kind}_{_ENDED}.db", folder / f"{kind}_{pid}.db"):
        for key, value in _read(path):
            sums[key] += value
    with replacing(folder / f"{kind}_{pid}{_COMPLETE}") as part:
        part.write_bytes(_pack(sums))
    _take_over(folder, kind, pid)


def _read(path: Path) -> list[tuple[str, float]]:
    """Return the counts in a file, of which one that its process left half made has none."""
    try:
        # prometheus-client leaves it untyped.
        found = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        return [(key, value) for key, value, _, _ in found]
    except FileNotFoundError:
        return []
    except (RuntimeError, ValueError, struct.error) as error:
        log.error("%s: damaged, and left out of the metrics (%s)", path, error)  # noqa: TRY400  the error says it all
        return []


def _take_over(folder: Path, kind: str, pid: str) -> None:
    """Let a complete sum, which has the counts of a process in it, take the place of both."""
    (folder / f"{kind}_{pid}.db").unlink(missing_ok=True)
    (folder / f"{kind}_{pid}{_COMPLETE}").replace(folder / f"{kind}_{_ENDED}.db")


def _pack(values: dict[str, float]) -> bytes:
    """Return a file as prometheus-client reads it; it writes through a map, which a full disk would end us for."""
    parts = list[bytes]()
    for key, value in values.items():
        encoded = key.encode()
        padding = b" " * (8 - (len(encoded) + _LENGTH.size) % 8)
        parts += [_LENGTH.pack(len(encoded)), encoded, padding, _NUMBERS.pack(value, 0)]
    content = b"".join(parts)
    return _HEADER.pack(_HEADER.size + len(content), 0) + content


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
