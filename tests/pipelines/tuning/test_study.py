"""A search within its budget, and what an interruption leaves."""

import os
import signal
import time

import optuna
import pytest
from optuna.trial import TrialState

from fatescope.errors import DataError, ParamsError
from pipelines.tuning import recovery
from pipelines.tuning.budget import HOPELESS, TrialTooLongError, may_start, minutes_left, queue_affordable
from pipelines.tuning.interrupts import interruptible
from pipelines.tuning.recovery import failure_reason, queue_again, recover_lost_trials
from pipelines.tuning.result import FailedTrial
from pipelines.tuning.study import run_trials, study_name
from pipelines.tuning.summary import summarise
from tests.support.studies import LOCAL, add_finished_trial, add_lost_trial, open_journal


def test_a_failed_trial_is_kept_and_stops_nothing(make_params, study):
    def objective(trial):
        trial.set_user_attr("params", {})
        if trial.number == 1:
            raise ParamsError("no such weights")
        return trial.suggest_float("x", 0, 1)

    params = make_params({"tune.trials": 4, "tune.space": {"dropout": [0.1]}})
    run_trials(study, objective, params.tune, LOCAL)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 3
    result = summarise(study, params)
    assert result.trials == {"complete": 3, "fail": 1}
    assert result.failures == [FailedTrial(number=1, reason="ParamsError: no such weights", params={})]
    assert result.best.value == max(t.value for t in study.trials if t.value is not None)


def test_where_all_trials_fail_the_reason_is_given(make_params, study):
    def objective(_):
        raise ParamsError("no such weights")

    params = make_params({"tune.trials": 2})
    run_trials(study, objective, params.tune, LOCAL)
    with pytest.raises(DataError, match=r"no trial of 'a' is complete.*no such weights"):
        summarise(study, params)


def test_the_minutes_end_a_search(make_params, study):
    params = make_params({"tune.trials": 1000, "tune.minutes": 10}).tune

    def objective(trial):
        add_finished_trial(study, minutes=4)  # another process's
        return trial.suggest_float("x", 0, 1)

    run_trials(study, objective, params, LOCAL)
    assert minutes_left(study, params) == pytest.approx(-2, abs=0.1)
    assert len(study.trials) == 6


def test_no_trial_starts_that_would_take_longer_than_the_shortest_one(make_params, study):
    params = make_params({"tune.trials": 9, "tune.minutes": 10}).tune
    assert may_start(study, params)
    add_finished_trial(study, minutes=1, state=TrialState.PRUNED)
    add_finished_trial(study, minutes=5)
    assert not may_start(study, params)
    assert may_start(study, params.model_copy(update={"minutes": 11.1}))
    two = params.model_copy(update={"workers": 2})
    assert minutes_left(study, two) == pytest.approx(7)
    assert may_start(study, two)
    assert may_start(study, two.model_copy(update={"minutes": 5.6})), "half of the 5 minutes in the 2.6 that are left"
    assert not may_start(study, two.model_copy(update={"minutes": 5.4}))
    assert not may_start(study, params.model_copy(update={"minutes": 60, "trials": 2}))


def test_a_lost_trial_is_tried_again_where_others_have_filled_its_place(make_params, study):
    params = make_params({"tune.trials": 3, "tune.workers": 3, "tune.minutes": 60}).tune
    lost = add_lost_trial(study, hours=1)
    for _ in range(4):  # of which the other two workers began one too many each
        add_finished_trial(study, minutes=1)
    assert not may_start(study, params)
    run_trials(study, lambda trial: trial.suggest_float("x", 0, 1), params, LOCAL)
    assert len(study.trials) == 6
    assert study.trials[-1].state == TrialState.COMPLETE
    assert study.trials[-1].system_attrs["retry_history"] == [lost.number]
    assert not may_start(study, params)


def test_a_search_of_which_no_trial_fits_ends_early(make_params, study):
    params, begun = make_params({"tune.trials": 100, "tune.minutes": 2}).tune, []

    def objective(trial):
        begun.append(trial.number)
        raise TrialTooLongError(needed=4.0, left=2.0)

    run_trials(study, objective, params, LOCAL)
    assert len(begun) == HOPELESS
    assert may_start(study, params.model_copy(update={"minutes": 5}))
    add_finished_trial(study, minutes=1, state=TrialState.PRUNED)
    assert may_start(study, params), "one that ended shows that others may"


def test_trials_that_were_a_little_too_long_leave_hope(make_params, study):
    params = make_params({"tune.trials": 100, "tune.minutes": 2}).tune
    for _ in range(HOPELESS):
        add_finished_trial(study, minutes=0, state=TrialState.FAIL, needs_minutes=3.02)
    assert not may_start(study, params)
    assert may_start(study, params.model_copy(update={"minutes": 2.02})), "3.02 is less than 1.5 times as much"


def test_a_trial_that_was_too_long_is_tried_again_under_a_larger_budget(make_params, study):
    params = make_params({"tune.trials": 2, "tune.minutes": 2}).tune
    study.enqueue_trial({"x": 0.75})

    def objective(trial):
        value = trial.suggest_float("x", 0, 1)
        if value == 0.75 and params.minutes < 5:
            raise TrialTooLongError(needed=4.0, left=2.0)
        return value

    run_trials(study, objective, params, LOCAL)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.trials[0].user_attrs["reason"].endswith("it takes about 4 of tune.minutes, and 2 are left")
    queue_affordable(study, params)
    assert len(study.trials) == 2, "it still does not fit"
    params = params.model_copy(update={"minutes": 6})
    for _ in range(2):
        queue_affordable(study, params)
    assert [trial.state for trial in study.trials[2:]] == [TrialState.WAITING]
    run_trials(study, objective, params, LOCAL)
    # Not the best value: that of the other trial is drawn, and may be above.
    assert [trial.value for trial in study.trials[2:]] == [0.75]
    assert len(study.trials) == 3, "the first attempt does not count"
    assert failure_reason(study, study.trials[0]).endswith("are left; tried again")


def test_minutes_and_lessons_of_training_are_no_part_of_a_study(make_params):
    def name(changes):
        return study_name("binary", make_params(changes), {})

    assert name({"train.minutes": 1}) == name(
        {"train.minutes": 2, "tune.minutes": 3, "train.epochs": 99, "train.distil": True}
    )
    assert name({"train.dropout": 0.1}) != name({"train.dropout": 0.2})


def test_a_trial_killed_before_it_named_its_worker_is_tried_again(tmp_path, monkeypatch):
    study = optuna.create_study(storage=open_journal(tmp_path / "study.journal"))
    study.enqueue_trial({"x": 3})
    study.ask()
    recover_lost_trials(study, LOCAL)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING], "it may be about to say it"
    monkeypatch.setattr(recovery, "UNNAMED_S", 0.0)
    recover_lost_trials(study, LOCAL)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.ask().suggest_int("x", 0, 9) == 3


def test_the_night_after_a_kill_costs_no_minutes(make_params, study):
    add_lost_trial(study, hours=9)
    recover_lost_trials(study, LOCAL)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    params = make_params({"tune.trials": 2, "tune.minutes": 1}).tune
    assert minutes_left(study, params) == params.minutes
    run_trials(study, lambda trial: trial.suggest_float("x", 0, 1), params, LOCAL)
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == 2


def test_sigterm_is_heard_as_ctrl_c_and_once_only():
    before = signal.getsignal(signal.SIGTERM)
    put_in_order = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            put_in_order.append(True)

    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert put_in_order
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_trial_that_is_tried_again_has_passed_no_rung():
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(0.9, 2)
    assert not trial.should_prune()
    assert any("rung" in name for name in study.trials[0].system_attrs)
    study.tell(trial, state=TrialState.FAIL)
    queue_again(study, study.trials[0])
    waiting = study.trials[1]
    assert waiting.params == study.trials[0].params
    assert set(waiting.system_attrs) == {"failed_trial", "retry_history"}
