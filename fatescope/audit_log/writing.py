"""Append entries, each to the one before."""

import getpass
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fatescope.audit_log.entries import FAILED, RECOVERY, START, Entry, Head, canonical, digest, plain
from fatescope.audit_log.folder import HEAD, configured, locked, read_head, write

_BLOCK = 1 << 16


def append(
    what: str,
    subject: object,
    *,
    evidence: object = None,
    who: str | None = None,
    folder: Path | None = None,
    unless: Callable[[], bool] | None = None,
) -> Entry | None:
    """Append an entry, which is on the disk when this returns, and return it; None where the log is off.

    `who` is the user of the system unless it is given. `unless` may say, while nobody else writes, that there is
    nothing to append any more. Raises AuditLogError where it cannot be written.
    """
    folder = folder or configured()
    if folder is None:
        return None
    with locked(folder) as log:
        if unless is not None and unless():
            return None
        return append_locked(folder, log, who or user(), what, subject, {} if evidence is None else evidence)


@contextmanager
def recording(
    what: str,
    subject: object,
    *,
    evidence: object = None,
    who: str | None = None,
    folder: Path | None = None,
) -> Iterator[Entry | None]:
    """Append an entry before the block, which is the act; where that raises, append that the act failed."""
    # Before: an act that nobody can explain is worse than an entry of one that failed.
    entry = append(what, subject, evidence=evidence, who=who, folder=folder)
    try:
        yield entry
    except BaseException as error:
        if entry is not None:
            reason = {"of": entry.seq, "error": type(error).__name__}
            append(f"{what} {FAILED}", subject, evidence=reason, who=who, folder=folder)
        raise


def user() -> str:
    """Return who runs this process; the number of one without a name, as in a container that runs under it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def append_locked(folder: Path, log: IO[bytes], who: str, what: str, subject: object, evidence: object) -> Entry:
    """Append an entry to the log of `folder`, which is opened and locked, and return it."""
    last, torn = _read_end(log)
    known = read_head(folder)
    head = _resume(known, last)
    if known is None and last is not None:
        # Whoever removed it may have removed the end of the log with it.
        head = _put(folder, log, head, ("fatescope", RECOVERY, "audit log", {"missing": HEAD})).head
    if torn:
        # Of a process that was killed while it wrote: it has told nobody that the entry was there.
        os.ftruncate(log.fileno(), log.seek(0, os.SEEK_END) - len(torn))
        lost = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
        head = _put(folder, log, head, ("fatescope", RECOVERY, "audit log", lost)).head
    return _put(folder, log, head, (who, what, subject, evidence))


def _resume(head: Head | None, last: Entry | None) -> Head:
    """Return what the next entry goes on from.

    It is the head, also where the log ends with something else, so that what is missing or was changed there shows for
    good; but for an entry that was written by a process that was killed before it had noted the head.
    """
    if head is None:
        return Head(0, START) if last is None else last.head
    if last is not None and last.seq == head.seq + 1 and last.previous == head.hash:
        return last.head
    return head


def _put(folder: Path, log: IO[bytes], before: Head, act: tuple[str, str, object, object]) -> Entry:
    who, what, subject, evidence = act
    content: dict[str, Any] = {
        "seq": before.seq + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": who,
        "what": what,
        "subject": plain(subject),
        "evidence": plain(evidence),
        "previous": before.hash,
    }
    entry = Entry(**content, hash=digest(content))
    log.write(entry.line())
    log.flush()
    os.fsync(log.fileno())
    write(folder / HEAD, canonical(entry.head._asdict()))
    return entry


def _read_end(log: IO[bytes]) -> tuple[Entry | None, bytes]:
    """Return the last entry, and what stands behind the last end of a line."""
    end = position = log.seek(0, os.SEEK_END)
    tail = b""
    while position and tail.rstrip(b"\n").count(b"\n") < 2:
        start = max(0, position - _BLOCK)
        log.seek(start)
        tail, position = log.read(position - start) + tail, start
    log.seek(end)
    whole, _, torn = tail.rpartition(b"\n")
    return (Entry.parse(whole.rpartition(b"\n")[2]) if whole else None), torn
