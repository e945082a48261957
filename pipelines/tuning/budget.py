"""The budget of a search, in trials and minutes, over all its processes and sessions."""

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fatescope import plural
from fatescope.config import Tune
from pipelines.tuning.recovery import queue_again, retried, was_lost

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
NEEDED = "needs_minutes"
"""The attribute of a trial that did not fit into the budget: what it would take of it."""
HOPELESS, FAR = 3, 1.5
"""So many trials that would take more than so many times the whole budget end a search in which no other one ended."""


class TrialTooLongError(Exception):
    """A trial would not end within the budget; its value would be that of a schedule cut short."""

    def __init__(self, needed: float, left: float) -> None:
        left = float(f"{max(left, 0):.2g}")
        are = plural.agree(left, "is", "are")
        super().__init__(f"it takes about {needed:.2g} of tune.minutes, and {left:.2g} {are} left")
        self.needed = needed
        """What it takes of `tune.minutes`."""


def count_trials(study: Study) -> int:
    """Return how many trials count against the budget: all but those that were tried again."""
    known = study.get_trials(deepcopy=False)
    return sum(trial.state in {*FINISHED, TrialState.RUNNING} for trial in known) - len(retried(study))


def minutes_left(study: Study, params: Tune) -> float:
    """Return the minutes that the finished trials have left, shared between the workers.

    Lost trials do not count: nobody knows how long they ran. They end when their loss is noticed, which may be the next
    morning.
    """
    known = study.get_trials(deepcopy=False, states=FINISHED)
    return params.minutes - sum(_minutes(trial) for trial in known if not was_lost(trial)) / params.workers


def may_start(study: Study, params: Tune) -> bool:
    """Return whether the budget has room for one more trial, if it takes no longer than the shortest one so far."""
    left = minutes_left(study, params)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shortest = min((_minutes(trial) for trial in complete), default=0.0)
    affordable = left > 0 and shortest / params.workers <= left and not _is_hopeless(study, params)
    return count_trials(study) < _places(study, params) and affordable


def _places(study: Study, params: Tune) -> int:
    """Return how many trials may be begun.

    Several processes together may begin as many trials too many as there are other processes. A trial that was lost is
    tried again also where those that ran beside it have filled its place.
    """
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    lost = any("retry_history" in trial.system_attrs for trial in waiting)
    return params.trials + (params.workers - 1 if lost else 0)


def _is_hopeless(study: Study, params: Tune) -> bool:
    ended = study.get_trials(deepcopy=False, states=FINISHED)
    too_long = [trial for trial in ended if trial.user_attrs.get(NEEDED, 0.0) > FAR * params.minutes]
    return len(too_long) == len(ended) >= HOPELESS


def queue_affordable(study: Study, params: Tune) -> None:
    """Queue the trials again that were too long for an earlier budget and fit into what is left of this one."""
    left, done = minutes_left(study, params), retried(study)
    for trial in study.get_trials(deepcopy=True, states=(TrialState.FAIL,)):
        if trial.number not in done and trial.user_attrs.get(NEEDED, float("inf")) <= left:
            queue_again(study, trial)


def _minutes(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() / 60 if trial.duration else 0.0
