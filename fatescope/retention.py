"""How long what is kept about cells and people is kept, by kind.

| kind | what | settings in days |
|---|---|---|
| `records` | files of the prediction log | `FATESCOPE_RETENTION_DAYS` |
| `feedback` | corrections, with their images | `FATESCOPE_RETENTION_FEEDBACK_DAYS` |
| `queue` | batches of cells to label, which wait for corrections | the same |
| `images` | images of corrections, which stay without them | `FATESCOPE_RETENTION_IMAGES_DAYS` |
| `audit_log` | entries of the audit log, for which another entry vouches | `FATESCOPE_RETENTION_AUDIT_LOG_DAYS` |
| `incidents` | windows and reports of incidents that have ended | `FATESCOPE_RETENTION_INCIDENTS_DAYS` |

None keeps for ever. The service applies all but the last daily, the receiver of incidents the last.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fatescope import audit_log
from fatescope.data import corrections

DAY_S = 86_400


@dataclass(frozen=True)
class Place:
    """A folder, and the days after which what is in it is deleted; either may be None."""

    folder: Path | None = None
    days: float | None = None


NOTHING = Place()


@dataclass(frozen=True)
class Kept:
    """What is kept where for how long."""

    records: Place = NOTHING
    feedback: Place = NOTHING
    images: Place = NOTHING
    """The folder is that of `feedback`."""
    queue: Place = NOTHING
    """The folder is that of `records`."""
    audit_log: Place = NOTHING
    incidents: Place = NOTHING


def apply(kept: Kept, now: float | None = None, *, dry_run: bool = False) -> dict[str, int]:
    """Delete what is too old; return kind → how many were (files, corrections, batches, images, entries, incidents).

    `now` is in seconds since the epoch. With `dry_run` nothing is deleted. What went, but for records, of which some go
    every hour, is entered into the audit log.
    """
    now = time.time() if now is None else now
    removed = {}
    for kind, expire in _KINDS.items():
        place: Place = getattr(kept, kind)
        if place.folder is None or place.days is None:
            continue
        removed[kind] = count = expire(place.folder, now - place.days * DAY_S, dry_run)
        if count and not dry_run and kind not in ("records", "audit_log"):
            evidence = {"kind": kind, "days": place.days, "removed": count}
            audit_log.append(audit_log.RETENTION, kind, evidence=evidence, folder=kept.audit_log.folder)
    return removed


def expire_records(folder: Path, before: float, dry_run: bool = False) -> int:
    """Delete the files of the prediction log that were written before a time; return how many."""
    return _expire_files((*folder.glob("*/*.parquet"), *folder.glob("*/shadow/*.parquet")), before, dry_run)


def _expire_queue(folder: Path, before: float, dry_run: bool) -> int:
    return _expire_files(folder.glob("*/queue/*.parquet"), before, dry_run)


def _expire_files(paths: Iterable[Path], before: float, dry_run: bool) -> int:
    count = 0
    for path in paths:
        # Another gateway may be doing the same.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                if not dry_run:
                    path.unlink()
                count += 1
    return count


def _expire_feedback(folder: Path, before: float, dry_run: bool) -> int:
    if dry_run:
        return sum(_is_before(line, before) for line in corrections.read(folder))
    return corrections.thin(folder, keep=lambda line: not _is_before(line, before)).lines


def _expire_images(folder: Path, before: float, dry_run: bool) -> int:
    if dry_run:
        old = [line for line in corrections.read(folder) if line.get("path")]
        newer = {line["path"].partition("/")[0] for line in old if not _is_before(line, before)}
        going = {line["path"].partition("/")[0] for line in old} - newer
        return sum(path.is_file() for own in going for path in (folder / own).rglob("*"))
    return corrections.thin(
        folder, keep=lambda _: True, keep_image=lambda line: not _is_before(line, before)
    ).images  # fmt: skip


def _is_before(line: corrections.Line, before: float) -> bool:
    try:
        return datetime.fromisoformat(line["time"]).timestamp() < before
    except (KeyError, ValueError, TypeError):
        return False


def _expire_audit_log(folder: Path, before: float, dry_run: bool) -> int:
    time = datetime.fromtimestamp(before, UTC)
    if dry_run:
        entries = list(audit_log.read(folder))
        return min(sum(datetime.fromisoformat(entry.time) < time for entry in entries), max(0, len(entries) - 1))
    return audit_log.prune(folder, time)


def _expire_incidents(folder: Path, before: float, dry_run: bool) -> int:
    count = 0
    for path in folder.glob("*/incident.json"):
        with suppress(OSError, ValueError):
            ended = json.loads(path.read_text(encoding="utf-8")).get("ended")
            # One that goes on is needed, whenever it began.
            if ended and datetime.fromisoformat(ended).timestamp() < before:
                if not dry_run:
                    shutil.rmtree(path.parent)
                count += 1
    return count


_KINDS: dict[str, Callable[[Path, float, bool], int]] = {
    "records": expire_records,
    "images": _expire_images,
    "feedback": _expire_feedback,
    "queue": _expire_queue,
    "audit_log": _expire_audit_log,
    "incidents": _expire_incidents,
}
