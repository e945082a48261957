"""What a study found: its best trial, and the trials that an ensemble is made of."""

import json
import logging
from collections import Counter

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fatescope.config import Params
from fatescope.errors import DataError
from pipelines.tuning.budget import NEEDED
from pipelines.tuning.recovery import failure_reason
from pipelines.tuning.result import STANDS, BestTrial, FailedTrial, SearchResult

log = logging.getLogger(__name__)


def without_search() -> SearchResult:
    """Return the result where nothing is searched: the section `train` as it stands."""
    return SearchResult(study=None, sampler=None, trials={}, failures=[], best=STANDS, members=[STANDS])


def summarise(study: Study, params: Params) -> SearchResult:
    """Return the best trial of `study` and the members of an ensemble.

    Where all trials were too long for the budget, the section `train` stands as it is.
    Raises DataError where none is complete for other reasons.
    """
    known = study.get_trials(deepcopy=False)
    complete = [trial for trial in known if trial.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: (-_value(trial), trial.number))
    # A pruned trial has the value that it had reached: it may be the best of its backbone.
    pruned = [trial for trial in known if trial.state == TrialState.PRUNED and trial.intermediate_values]
    members = _choose_members([*ranked, *sorted(pruned, key=lambda trial: -_value(trial))])
    failed = [trial for trial in known if trial.state == TrialState.FAIL]
    if not ranked:
        _check_too_long(study, failed)
    return SearchResult(
        study=study.study_name,
        sampler=params.tune.sampler,
        trials=dict(Counter(trial.state.name.lower() for trial in known)),
        failures=[
            FailedTrial(
                number=trial.number,
                reason=failure_reason(study, trial),
                params=trial.user_attrs.get("params", trial.params),
            )
            for trial in failed
        ],
        best=_describe(ranked[0]) if ranked else STANDS,
        members=[_describe(trial) for trial in members[: params.ensemble.members]] if ranked else [STANDS],
    )


def _check_too_long(study: Study, failed: list[FrozenTrial]) -> None:
    if not any(NEEDED in trial.user_attrs for trial in failed):
        reasons = [failure_reason(study, trial) for trial in failed]
        # Pruned ones alone leave the minutes to blame; what failed says itself what to change.
        advice = "raise tune.minutes" if not reasons else "change what these name, or set tune.trials to 0"
        shown = [*dict.fromkeys(reasons)][:3]
        raise DataError(f"tune: no trial of '{study.study_name}' is complete: {shown}; {advice}")
    log.warning("tune.minutes: no trial ends within them on this machine, so that the section train stands as it is")


def _choose_members(ranked: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the best trial of each backbone, then the others; of trials with the same parameters, the first alone."""
    distinct: dict[str, FrozenTrial] = {}
    for trial in ranked:
        distinct.setdefault(json.dumps(trial.user_attrs["params"], sort_keys=True), trial)
    # Where backbones are not searched, all trials have the same.
    best: dict[str | None, FrozenTrial] = {}
    for trial in distinct.values():
        best.setdefault(trial.user_attrs["params"].get("backbone"), trial)
    numbers = {trial.number for trial in best.values()}
    return [*best.values(), *(trial for trial in distinct.values() if trial.number not in numbers)]


def _describe(trial: FrozenTrial) -> BestTrial:
    state = trial.state.name.lower()
    return BestTrial(number=trial.number, state=state, value=_value(trial), params=trial.user_attrs["params"])


def _value(trial: FrozenTrial) -> float:
    """Return the value of a complete trial, or the best that a pruned one had reached."""
    return trial.value if trial.value is not None else max(trial.intermediate_values.values())
