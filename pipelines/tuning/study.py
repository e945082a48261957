"""The Optuna study behind the search: where it is kept, how it samples, how long it goes on, and what a kill leaves.

What a trial is worth is not known here: see `pipelines.stages.tune`.
"""

import logging
import os
import re
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import ArgumentError, OperationalError

from fatescope.config import Tune
from fatescope.errors import DataError

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

STUDIES, HEARTBEAT = "FATESCOPE_STUDIES", "FATESCOPE_HEARTBEAT_S"
"""Address of a database that workers on many machines share, as SQLAlchemy spells it; seconds between heartbeats."""
HEARTBEAT_S, GRACE = 15, 4
"""Seconds between two heartbeats; so many of them without one, and a worker is gone."""
RETRIES = 3
"""A trial that was killed so often is not tried again: it may be what kills its worker."""
_RUNG = "completed_rung_"
"""What Optuna keeps of a trial that it went on with, where others were pruned."""
_PAUSE_S = 1.0
_NAMED_S = 10.0
"""A trial says within milliseconds of its start who its worker is; one that has not by now was killed in between."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class ByNumber(BaseSampler):
    """Draws each trial from a seed that is made of the study's seed and the number of the trial.

    So a search that nothing interrupts can be repeated, while one that goes on later, or that several processes share,
    never draws the same numbers again.
    """

    def __init__(self, params: Tune) -> None:
        self._params = params
        self._drawn = sampler(params, params.seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:  # noqa: ARG002  as Optuna calls it
        """Make the sampler of this trial; all that one learns from is in the study."""
        [seed] = np.random.SeedSequence([self._params.seed, trial.number]).generate_state(1)
        self._drawn = sampler(self._params, int(seed))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self._drawn.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw those."""
        return self._drawn.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  as Optuna has it
        """Draw one of the others."""
        return self._drawn.sample_independent(study, trial, param_name, param_distribution)


def sampler(params: Tune, seed: int) -> BaseSampler:
    """Return the sampler that `params` name."""
    if params.sampler == "tpe":
        # Grouped, because a parameter may exist for some backbones only. The liar takes what others are trying now for
        # bad, so that nobody tries the same beside them.
        return _stable(TPESampler)(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=params.startup_trials, seed=seed
        )
    if params.sampler == "gp":
        return _stable(GPSampler)(n_startup_trials=params.startup_trials, seed=seed, deterministic_objective=False)
    return RandomSampler(seed=seed)


def storage(journal: Path) -> BaseStorage:
    """Return the database that STUDIES names, else the journal, which processes of one machine may share.

    A database is for workers on many machines: there, a trial whose worker has not been heard of is tried again.
    """
    address = os.environ.get(STUDIES)
    if not address:
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal)))
    beat = int(os.environ.get(HEARTBEAT) or HEARTBEAT_S)
    try:
        return _stable(RDBStorage)(
            address, heartbeat_interval=beat, grace_period=GRACE * beat, heartbeat_stale_trial_callback=_retry
        )
    except (ArgumentError, OperationalError, ImportError) as error:
        shown = re.sub(r"//[^@/]*@", "//", str(error))  # no password
        raise DataError(f"{STUDIES}: the database of studies cannot be opened ({shown.splitlines()[0]})") from None


def revive(study: Study) -> None:
    """Fail the trials whose worker is gone, and put the same ones in line again, RETRIES times at most."""
    _stable(optuna.storages.fail_stale_trials)(study)
    if os.environ.get(STUDIES):
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_here(trial) and _is_gone(trial):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # another process has found it
            _retry(study, study.trials[trial.number])


def _retry(study: Study, trial: FrozenTrial) -> None:
    again = len(trial.system_attrs.get("retry_history", [])) < RETRIES
    log.warning("trial %d was ended with its worker%s", trial.number, "; it is tried again" if again else "")
    # Whoever takes it up must not look like the worker that is gone, nor have passed rungs of Hyperband already.
    trial.user_attrs = {}
    trial.system_attrs = {name: value for name, value in trial.system_attrs.items() if not name.startswith(_RUNG)}
    _stable(RetryHeartbeatStaleTrialCallback)(max_retry=RETRIES)(study, trial)


def _is_here(trial: FrozenTrial) -> bool:
    return "worker" not in trial.user_attrs or trial.user_attrs["worker"].startswith(f"{socket.gethostname()}:")


def _is_gone(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker is None:
        assert trial.datetime_start, "it is running"
        return (datetime.now() - trial.datetime_start).total_seconds() > _NAMED_S  # noqa: DTZ005  as Optuna has it
    return _begun(worker.partition(":")[2]) != trial.user_attrs.get("begun")


def _begun(process: str | int) -> str | None:
    """Return when a process began, in ticks since the machine did; None for one that is gone.

    Numbers of processes come again; one that began at another time is another.
    """
    try:
        state, *told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else told[18]  # until its parent has asked, what was killed is still listed


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, once: what an end puts in order, a second one does not cut off."""

    def stop(_: int, __: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    # Whoever started this in the background may have had Ctrl-C ignored.
    heard = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.getsignal(each) for each in heard}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def optimize(study: Study, objective: Callable[[Trial], float], params: Tune) -> None:
    """Run trials in this process until the budget of the whole study is spent, and no other process may have died.

    A trial that raises is kept as failed with its reason, and the next one is begun; one that is interrupted is put in
    line again. Several processes may together begin as many trials too many as there are others.
    """
    last: int | None = None

    def kept(trial: Trial) -> float:
        nonlocal last
        last = trial.number
        trial.set_user_attr("begun", _begun(os.getpid()))
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}"[:500])
            log.warning("trial %d failed: %s", trial.number, error)
            raise

    while True:
        while counted(study) < params.trials and spent_minutes(study, params) < params.minutes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                try:
                    study.optimize(kept, n_trials=1, catch=(Exception,))
                except KeyboardInterrupt:
                    if last is not None and was_killed(study.trials[last]):
                        _retry(study, study.trials[last])
                    raise
        # Whoever is done first waits for the others: somebody has to be there to try again what is killed last.
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not any(os.environ.get(STUDIES) or _is_here(trial) for trial in running):
            return
        time.sleep(_PAUSE_S)
        revive(study)


def killed(study: Study) -> set[int]:
    """Return the numbers of the trials that were killed with their worker and are tried again."""
    known = study.get_trials(deepcopy=False)
    return {number for trial in known for number in trial.system_attrs.get("retry_history", [])}


def counted(study: Study) -> int:
    """Return how many trials count against the budget: all but those that were killed and are tried again."""
    known = study.get_trials(deepcopy=False)
    return sum(trial.state in {*FINISHED, TrialState.RUNNING} for trial in known) - len(killed(study))


def spent_minutes(study: Study, params: Tune) -> float:
    """Return the minutes that all finished trials took, shared between the processes.

    Without those that were killed: how long they had worked, nobody knows. They end when their death is found, which
    may be the next morning.
    """
    known = study.get_trials(deepcopy=False, states=FINISHED)
    durations = [trial.duration for trial in known if trial.duration and not was_killed(trial)]
    return sum(each.total_seconds() for each in durations) / 60 / params.workers


def was_killed(trial: FrozenTrial) -> bool:
    """Return whether a trial ended with its worker, which then had no time to give a reason."""
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def reason(study: Study, trial: FrozenTrial) -> str:
    """Return why a trial of `study` failed."""
    if trial.number in killed(study):
        return "killed with its process; tried again"
    return str(trial.user_attrs.get("reason", "killed with its process, for the last time"))


def _stable(experimental: Callable[P, R]) -> Callable[P, R]:
    """Return what Optuna has offered for years and still calls experimental, without the warning."""

    @wraps(experimental)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return experimental(*args, **kwargs)

    return quiet
