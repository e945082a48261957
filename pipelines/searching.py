"""The Optuna study behind the search: where it is kept, how it samples, how long it goes on, and what a kill leaves.

What a trial is worth is not known here: see `pipelines.tune`.
"""

import logging
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pipelines.core.params import Tune

log = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def sampler(params: Tune, seed: int) -> BaseSampler:
    """Return the sampler that `params` name."""
    with warnings.catch_warnings():
        # Optuna calls what it has offered for years experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if params.sampler == "tpe":
            # Grouped, because a parameter may exist for some backbones only.
            return TPESampler(multivariate=True, group=True, n_startup_trials=params.startup_trials, seed=seed)
        if params.sampler == "gp":
            return GPSampler(n_startup_trials=params.startup_trials, seed=seed, deterministic_objective=False)
        return RandomSampler(seed=seed)


def storage(journal: Path) -> JournalStorage:
    """Return the journal that several processes of one machine may write."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(journal)))


def retry_killed(study: Study) -> None:
    """Fail the trials whose process is gone, and put the same ones in line again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, process = trial.user_attrs.get("worker", ":").partition(":")
        if host == socket.gethostname() and not Path(f"/proc/{process}").exists():
            study.tell(trial.number, state=TrialState.FAIL)
            study.set_user_attr("killed", sorted({*study.user_attrs.get("killed", []), trial.number}))
            study.enqueue_trial(trial.params)
            log.warning("trial %d was killed with its process; it is tried again", trial.number)


def optimize(study: Study, objective: Callable[[Trial], float], params: Tune) -> None:
    """Run trials in this process until the budget of the whole study is spent.

    A trial that raises is kept as failed with its reason, and the next one is begun. Several processes may together
    begin as many trials too many as there are others.
    """

    def kept(trial: Trial) -> float:
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}"[:500])
            log.warning("trial %d failed: %s", trial.number, error)
            raise

    while counted(study) < params.trials and spent_minutes(study, params) < params.minutes:
        study.optimize(kept, n_trials=1, catch=(Exception,))


def counted(study: Study) -> int:
    """Return how many trials count against the budget: all but those that were killed and are tried again."""
    known = study.get_trials(deepcopy=False)
    begun = sum(trial.state in {*FINISHED, TrialState.RUNNING} for trial in known)
    return begun - len(study.user_attrs.get("killed", []))


def spent_minutes(study: Study, params: Tune) -> float:
    """Return the minutes that all finished trials took, shared between the processes."""
    known = study.get_trials(deepcopy=False, states=FINISHED)
    return sum(trial.duration.total_seconds() for trial in known if trial.duration) / 60 / params.workers


def reason(study: Study, trial: FrozenTrial) -> str:
    """Return why a trial of `study` failed."""
    killed = trial.number in study.user_attrs.get("killed", [])
    return "killed with its process; tried again" if killed else str(trial.user_attrs.get("reason", "unknown"))
