"""The audit log: who did what to the models and their answers, when and on what evidence.

One line of code records an act, from any process and thread:

    audit_log.append("signature", {"model": "fatescope-binary", "version": "4"}, evidence={"signer": "lab"})

`FATESCOPE_AUDIT_LOG` names the folder (`audit_log` without it, `off` for none). `log.jsonl` in it has a line for each
entry, in canonical JSON: `seq` (from 1), `time` (UTC), `who`, `what`, `subject`, `evidence`, `previous` (the hash of
the entry before) and `hash` (SHA-256 of all of that). `head.json` has `seq` and `hash` of the newest entry: against it,
and against copies of it that are kept elsewhere, a missing end shows (`fatescope.audit_verification`).

Whatever gives an alias to a version has the `subject` `{"model", "alias", "version"}` (the version is "" where the
alias was taken away); from these entries follows which version had it when. No entry has anything about the person
that a sample comes from: entries cannot be deleted one by one.
"""

import fcntl
import getpass
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from fatescope.atomic import replacing
from fatescope.errors import FatescopeError

VARIABLE, DEFAULT, OFF = "FATESCOPE_AUDIT_LOG", Path("audit_log"), "off"
FILE, HEAD, LOCK = "log.jsonl", "head.json", ".lock"
START = "0" * 64
"""`previous` of the first entry."""
REGISTRATION, PROMOTION, ROLLBACK = "registration", "promotion", "rollback"
ALIAS_SEEN, ALIAS_MOVED = "alias first seen", "alias moved"
SIGNATURE, CORRECTION, KEY_USE = "signature", "correction", "key use"
DELETION, RETENTION, RECOVERY = "deletion", "retention", "recovery"
"""What the entries of Fatescope itself are called."""
FAILED = "failed"
"""How `what` of an entry ends that takes another one back: `promotion failed`."""
_BLOCK = 1 << 16
_SEQ, _ALIAS = re.compile(rb'"previous":"[0-9a-f]{64}","seq":([0-9]+),"subject":'), b'"alias'
"""What the line of an entry has of its number, and of aliases; others may have it too."""


class AuditLogError(FatescopeError):
    """The audit log cannot be written or read."""


class Head(NamedTuple):
    """The newest entry, or the one that it was when somebody kept this."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One act."""

    seq: int
    time: str
    who: str
    what: str
    subject: Any
    evidence: Any
    previous: str
    hash: str

    @property
    def head(self) -> Head:
        """Return what a kept head says of this entry."""
        return Head(self.seq, self.hash)

    @property
    def alias(self) -> tuple[str, str] | None:
        """Return model and alias where the entry gives an alias to a version."""
        subject = self.subject
        if isinstance(subject, dict) and {"model", "alias", "version"} <= subject.keys():
            return str(subject["model"]), str(subject["alias"])
        return None

    def line(self) -> bytes:
        """Return the entry as it stands in the log."""
        return _canonical(asdict(self)) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Entry | None":
        """Return the entry of a line, with or without its end; None where it is none, or not as it was written."""
        try:
            content = json.loads(line)
            entry = cls(**content)
            written = _canonical(content) == line.rstrip(b"\n")
            sealed = written and content.pop("hash") == _digest(content)
        except (ValueError, TypeError, RecursionError):
            return None
        return entry if sealed and isinstance(entry.seq, int) else None


def configured() -> Path | None:
    """Return the folder that the environment names; None where it is `off`."""
    name = os.environ.get(VARIABLE) or str(DEFAULT)
    return None if name == OFF else Path(name)


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
        return _append(folder, log, who or _user(), what, subject, {} if evidence is None else evidence)


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


def read(folder: Path, after: int = 0) -> Iterator[Entry]:
    """Yield the entries behind number `after` that can be read, the oldest first.

    `fatescope.audit_verification` says whether all is well.
    """
    # To parse what is left out takes a hundred times as long. Evidence may have numbers of its own.
    entries = _read(folder, lambda line: not after or any(int(found) > after for found in _SEQ.findall(line)))
    yield from (entry for entry in entries if entry.seq > after)


def read_alias_moves(folder: Path) -> Iterator[Entry]:
    """Yield the entries of which `aliases` takes account, the oldest first: a few of many."""
    yield from _read(folder, lambda line: _ALIAS in line)


def _read(folder: Path, is_wanted: Callable[[bytes], bool]) -> Iterator[Entry]:
    try:
        with (folder / FILE).open("rb") as log:
            yield from filter(None, map(Entry.parse, filter(is_wanted, log)))
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditLogError(f"{folder / FILE}: the audit log cannot be read ({error.strerror})") from error


def read_head(folder: Path) -> Head | None:
    """Return what `head.json` says, if it can be read."""
    try:
        content = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        return Head(int(content["seq"]), str(content["hash"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def aliases(entries: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """Return (model, alias) → version according to the log; "" where the alias was taken away."""
    state, before = dict[tuple[str, str], str](), dict[int, str | None]()
    for entry in entries:
        if entry.what == RETENTION and isinstance(entry.evidence, Mapping):
            # Of entries that are gone.
            for model, alias, version in entry.evidence.get("aliases", []):
                state.setdefault((model, alias), version)
        key = entry.alias
        if key is None:
            continue
        if not entry.what.endswith(FAILED):
            before[entry.seq] = state.get(key)
            state[key] = str(entry.subject["version"])
        elif (version := before.get(entry.evidence.get("of", 0))) is not None:
            state[key] = version
        else:
            state.pop(key, None)
    return state


def prune(folder: Path, before: datetime) -> int:
    """Delete the entries from before a time, and return how many; an entry vouches for those that are gone.

    It has the last `seq` and `hash` of them, with which the first remaining entry must go on, and the aliases then.
    """
    if not (folder / FILE).exists():
        return 0
    with locked(folder) as log:
        gone, rest = _older(folder, before)
        if not gone:
            return 0
        evidence = {
            "kind": "audit_log",
            "up_to": gone[-1].seq,
            "hash": gone[-1].hash,
            "aliases": sorted([*key, version] for key, version in aliases(gone).items()),
        }
        _append(folder, log, _user(), RETENTION, "audit log", evidence)
        log.seek(rest)
        _write(folder / FILE, log.read())
    return len(gone)


def _older(folder: Path, before: datetime) -> tuple[list[Entry], int]:
    """Return the entries from before a time but for the newest of all, and at which byte what stays begins."""
    gone, newest, place = list[Entry](), 0, 0
    with (folder / FILE).open("rb") as log:
        for line in log:
            entry = Entry.parse(line)
            if entry is not None:
                if datetime.fromisoformat(entry.time) >= before:
                    return gone, place
                gone.append(entry)
                newest = place
            place += len(line)
    # The next entry must go on from it.
    return gone[:-1], newest


def _user() -> str:
    """Return who runs this process; the number of one without a name, as in a container that runs under it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """Yield the opened log while no other thread, and no other process, writes to it; raises AuditLogError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not of the log itself, which pruning replaces.
        with (folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (folder / FILE).open("a+b") as log:
                yield log
    except OSError as error:
        raise AuditLogError(
            f"{folder}: the audit log cannot be written ({error.strerror}); set {VARIABLE} to a folder that can be "
            f"written to, or to '{OFF}' to keep none"
        ) from error


def _append(folder: Path, log: IO[bytes], who: str, what: str, subject: object, evidence: object) -> Entry:
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
        "subject": _plain(subject),
        "evidence": _plain(evidence),
        "previous": before.hash,
    }
    entry = Entry(**content, hash=_digest(content))
    log.write(entry.line())
    log.flush()
    os.fsync(log.fileno())
    _write(folder / HEAD, _canonical(entry.head._asdict()))
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


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _plain(value: object) -> Any:  # noqa: ANN401  JSON
    """Return `value` as JSON has it: mappings, lists, texts, finite numbers; whatever else it is as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
