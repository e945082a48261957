"""The Optuna study behind a search: its identity, and how a process takes part in it.

What a trial does is in `pipelines.tuning.objective`.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from fatescope.config import Params, Tune
from pipelines.settings import PipelineSettings
from pipelines.tuning import search_space
from pipelines.tuning.budget import NEEDED, TrialTooLongError, may_start
from pipelines.tuning.experimental import silence_experimental
from pipelines.tuning.recovery import is_local, name_worker, queue_again, recover_lost_trials, was_lost
from pipelines.tuning.sampler import SamplerByNumber
from pipelines.tuning.storage import open_storage

log = logging.getLogger(__name__)

_POLL_S = 1.0
CELLS = "without the test cells of any scheme"
"""On which cells trials are; those of earlier studies cannot be compared."""


@dataclass(frozen=True)
class Search:
    """What a process needs to take part in a search; it is sent to worker processes."""

    task: str
    params: Params
    settings: PipelineSettings
    cells: Path
    splits: Path
    journal: Path
    study: str
    """Name of the study."""
    tags: dict[str, str]
    """Tags of the run of every trial."""


def study_name(task: str, params: Params, tags: dict[str, str]) -> str:
    """Return a name that is the same for searches whose trials can be compared; another name starts anew."""
    budget = {"trials", "minutes", "workers", "startup_trials"}
    decides = [
        params.tune.model_dump(mode="json", exclude=budget),
        params.train.model_dump(mode="json", exclude={"threads", "epochs", "minutes", "distil"})
        | {"seeds": params.train.seeds[0]},
        params.classes(task),
        tags,
        CELLS,
    ]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return f"{task}-{digest[:12]}"


def open_study(search: Search) -> Study:
    """Open the study, or create it with the section `train` queued as its first trial."""
    # Failed trials are logged by `_run_trial`, without a traceback.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    params = search.params.tune
    study = optuna.create_study(
        study_name=search.study,
        storage=open_storage(search.journal, search.settings),
        sampler=SamplerByNumber(params),
        pruner=optuna.pruners.HyperbandPruner(params.min_epochs, params.epochs),
        direction="maximize",
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(search_space.as_trial(search.params.train, params), skip_if_exists=True)
    return study


def run_trials(study: Study, objective: Callable[[Trial], float], params: Tune, settings: PipelineSettings) -> None:
    """Run trials in this process until the budget of the study is spent and no other process may have been lost.

    A trial that raises is kept as failed, with its reason, and the next one starts; one that is interrupted is queued
    again. Several processes together may start as many trials too many as there are other processes.
    """
    while True:
        while may_start(study, params):
            _run_trial(study, objective)
        # The first process that is done waits for the others: the last lost trial needs somebody to try it again.
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not any(settings.studies is not None or is_local(trial) for trial in running):
            return
        time.sleep(_POLL_S)
        recover_lost_trials(study, settings)


def _run_trial(study: Study, objective: Callable[[Trial], float]) -> None:
    number: int | None = None

    def recorded(trial: Trial) -> float:
        nonlocal number
        number = trial.number
        name_worker(trial)
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}"[:500])
            if isinstance(error, TrialTooLongError):
                trial.set_user_attr(NEEDED, error.needed)
            log.warning("trial %d failed: %s", trial.number, error)
            raise

    with silence_experimental():
        try:
            study.optimize(recorded, n_trials=1, catch=(Exception,))
        except KeyboardInterrupt:
            if number is not None and was_lost(study.trials[number]):
                queue_again(study, study.trials[number])
            raise
