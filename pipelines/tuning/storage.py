"""Where studies are kept: a journal file, or a database that several machines share."""

import json
import logging
import re
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import ArgumentError, OperationalError

from fatescope.errors import DataError
from pipelines.settings import PipelineSettings
from pipelines.tuning.experimental import accept_experimental
from pipelines.tuning.recovery import queue_again

log = logging.getLogger(__name__)

MISSED_HEARTBEATS = 4
"""A worker that missed so many heartbeats is lost."""


def open_storage(journal: Path, settings: PipelineSettings) -> BaseStorage:
    """Return the database that `settings.studies` names, else the journal, which processes of one machine may share.

    In a database, a trial whose worker sends no heartbeats is queued again.
    Raises DataError where the database cannot be opened, or the journal is damaged.
    """
    if settings.studies is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        _mend(journal)
        return JournalStorage(JournalFileBackend(str(journal)))
    try:
        return accept_experimental(RDBStorage)(
            settings.studies,
            heartbeat_interval=settings.heartbeat_s,
            grace_period=MISSED_HEARTBEATS * settings.heartbeat_s,
            heartbeat_stale_trial_callback=queue_again,
        )
    except (ArgumentError, OperationalError, ImportError) as error:
        shown = re.sub(r"//[^@/]*@", "//", str(error))  # without the password
        raise DataError(
            f"FATESCOPE_STUDIES: the database of studies cannot be opened ({shown.splitlines()[0]})"
        ) from None


def _mend(journal: Path) -> None:
    """Remove the half of a line that a process which was killed, or a full disk, left at the end of the journal.

    Whatever is written next would continue that line. Raises DataError where a line before the last is damaged.
    """
    if not journal.exists():
        return
    # The lock with which Optuna writes: another worker may be in the middle of a line.
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        lines = content.splitlines(keepends=True)
        damaged = [number for number, line in enumerate(lines, 1) if not _is_whole(line)]
        if not damaged:
            return
        if damaged != [len(lines)]:
            raise DataError(f"{journal}: line {damaged[0]} is damaged; remove the file, and the search starts anew")
        log.warning("%s: the last line was not written to its end; it is removed", journal)
        with journal.open("rb+") as file:
            file.truncate(len(content) - len(lines[-1]))
    finally:
        lock.release()


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")
