"""Where studies are kept: a journal file, or a database that several machines share."""

import re
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, OperationalError

from fatescope.errors import DataError
from pipelines.settings import PipelineSettings
from pipelines.tuning.experimental import accept_experimental
from pipelines.tuning.recovery import queue_again

MISSED_HEARTBEATS = 4
"""A worker that missed so many heartbeats is lost."""


def open_storage(journal: Path, settings: PipelineSettings) -> BaseStorage:
    """Return the database that `settings.studies` names, else the journal, which processes of one machine may share.

    In a database, a trial whose worker sends no heartbeats is queued again.
    Raises DataError where the database cannot be opened.
    """
    if settings.studies is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
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
