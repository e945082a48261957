"""Where the log is, who may write to it now, and how far it has come."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fatescope.atomic import replacing
from fatescope.audit_log.entries import AuditLogError, Head

VARIABLE, DEFAULT, OFF = "FATESCOPE_AUDIT_LOG", Path("audit_log"), "off"
FILE, HEAD, LOCK = "log.jsonl", "head.json", ".lock"


def configured() -> Path | None:
    """Return the folder that the environment names; None where it is `off`."""
    name = os.environ.get(VARIABLE) or str(DEFAULT)
    return None if name == OFF else Path(name)


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


def read_head(folder: Path) -> Head | None:
    """Return what `head.json` says, if it can be read."""
    try:
        content = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        return Head(int(content["seq"]), str(content["hash"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, content: bytes) -> None:
    """Replace a file, so that it is on the disk when this returns."""
    with replacing(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
