"""Optuna studies in a journal, and trials that have ended or were lost."""

import socket
from datetime import datetime, timedelta

import optuna
from optuna.trial import TrialState

from pipelines.settings import PipelineSettings
from pipelines.tuning.storage import open_storage

LOCAL = PipelineSettings(studies=None, ray=None)


def open_journal(path):
    return open_storage(path, LOCAL)


def add_trials(study, *trials):
    """Add complete trials of (params, value)."""
    for params, value in trials:
        trial = study.ask()
        trial.set_user_attr("params", params)
        study.tell(trial, value)


def add_finished_trial(study, minutes, state=TrialState.COMPLETE, value=None, **attributes):
    """Add a trial that took so many minutes; a complete one has the value 0.5 unless another is given."""
    value = 0.5 if value is None and state == TrialState.COMPLETE else value
    trial = optuna.trial.create_trial(state=state, value=value, user_attrs={"params": {}} | attributes)
    trial.datetime_start = datetime.now() - timedelta(minutes=minutes)  # noqa: DTZ005  as Optuna has it
    trial.datetime_complete = trial.datetime_start + timedelta(minutes=minutes)
    study.add_trial(trial)


def add_lost_trial(study, hours, **attributes):
    """Add a trial that a process began so many hours ago, and that has died since."""
    worker = {"worker": f"{socket.gethostname()}:{2**30}", "begun": "1", "params": {}}
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=worker, **attributes)
    trial.datetime_start = datetime.now() - timedelta(hours=hours)  # noqa: DTZ005  as Optuna has it
    study.add_trial(trial)
    return study.trials[-1]
