"""Trials whose worker was lost: how they are noticed, and tried again."""

import logging
import os
import socket
from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipelines.settings import PipelineSettings
from pipelines.tuning.experimental import accept_experimental

log = logging.getLogger(__name__)

RETRIES = 3
"""A trial that was lost so often is not tried again: it may be what kills its worker."""
UNNAMED_S = 10.0
"""A trial names its worker within milliseconds of its start; one that has not by now was killed in between."""
_RUNG = "completed_rung_"
"""Prefix of what Optuna keeps of a trial that passed a rung of Hyperband."""


def name_worker(trial: Trial) -> None:
    """Record in `trial` which process runs it."""
    trial.set_user_attr("begun", _start_ticks(os.getpid()))
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")


def recover_lost_trials(study: Study, settings: PipelineSettings) -> None:
    """Fail the trials whose worker is gone and queue them again, RETRIES times at most."""
    accept_experimental(optuna.storages.fail_stale_trials)(study)
    if settings.studies is not None:
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_local(trial) and _is_gone(trial):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # another process was first
            queue_again(study, study.trials[trial.number])


def queue_again(study: Study, trial: FrozenTrial) -> None:
    """Queue the parameters of a failed trial again, unless it has been tried RETRIES times already."""
    again = len(trial.system_attrs.get("retry_history", [])) < RETRIES
    log.warning("trial %d did not end%s", trial.number, "; it is tried again" if again else "")
    # The next attempt must not look like the worker that is gone, nor have passed rungs of Hyperband already.
    trial.user_attrs = {}
    trial.system_attrs = {name: value for name, value in trial.system_attrs.items() if not name.startswith(_RUNG)}
    accept_experimental(RetryHeartbeatStaleTrialCallback)(max_retry=RETRIES)(study, trial)


def retried(study: Study) -> set[int]:
    """Return the numbers of the trials that were tried again as other trials."""
    known = study.get_trials(deepcopy=False)
    return {number for trial in known for number in trial.system_attrs.get("retry_history", [])}


def was_lost(trial: FrozenTrial) -> bool:
    """Return whether a trial ended with its worker, which then had no time to give a reason."""
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def failure_reason(study: Study, trial: FrozenTrial) -> str:
    """Return why a trial of `study` failed."""
    again = trial.number in retried(study)
    if "reason" in trial.user_attrs:
        return str(trial.user_attrs["reason"]) + ("; tried again" if again else "")
    return "killed with its process; tried again" if again else "killed with its process, for the last time"


def is_local(trial: FrozenTrial) -> bool:
    """Return whether the worker of `trial` runs on this machine, or has not named itself."""
    return "worker" not in trial.user_attrs or trial.user_attrs["worker"].startswith(f"{socket.gethostname()}:")


def _is_gone(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker is None:
        assert trial.datetime_start, "it is running"
        return (datetime.now() - trial.datetime_start).total_seconds() > UNNAMED_S  # noqa: DTZ005  as Optuna has it
    return _start_ticks(worker.partition(":")[2]) != trial.user_attrs.get("begun")


def _start_ticks(process: str | int) -> str | None:
    """Return when a process started, in clock ticks since the machine did; None for one that is gone.

    The numbers of processes are reused; together with the start they are unique.
    """
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]  # a killed process stays listed until its parent has asked
