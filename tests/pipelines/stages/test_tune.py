"""The search: what it may choose, how it goes on after a kill, and whether it is better than chance."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import wilcoxon

from fatescope.errors import DataError, ParamsError
from pipelines.registry import tracking
from pipelines.stages import ingest, split, train, tune
from pipelines.training import trainer
from pipelines.tuning import launcher, plots, search_space
from pipelines.tuning.study import ByNumber, _retry, optimize, revive, spent_minutes, stoppable, storage
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import ROOT

SPACE = {
    "tune.trials": 3,
    "tune.epochs": 2,
    "tune.min_epochs": 1,
    "tune.space": {
        "backbone": ["compact", "mobilenet_v2"],
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "batch_size": [8, 16],
    },
    "train.backbone": "compact",
    "train.batch_size": 16,
    "train.epochs": 2,
    "train.threads": 1,
    "train.minutes": 60,  # no result depends on how fast this machine is
    "tune.minutes": 60,
    "dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
}


@pytest.fixture
def study(tmp_path):
    return optuna.create_study(storage=storage(tmp_path / "a.journal"), study_name="a", direction="maximize")


def test_a_trial_sets_fields_of_train(make_params):
    params = make_params({"tune.space.normalisation": ["contrast", "background"]})
    trial = optuna.trial.FixedTrial(
        {
            "backbone": '"mobilenet_v2"',
            "input_size": "[60, 60]",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "dropout": 0.1,
            "batch_size": "32",
            "label_smoothing": 0.0,
            "max_shift": "4",
            "intensity": 0.1,
            "normalisation": '"background"',
        }
    )
    settings, chosen = search_space.suggest(trial, params.tune, params.train)
    assert (settings.backbone, settings.input_size, settings.batch_size) == ("mobilenet_v2", (60, 60), 32)
    assert (settings.max_shift, settings.normalisation) == (4, "background")
    assert settings.epochs == params.train.epochs
    assert params.train.changed(json.loads(json.dumps(chosen))) == settings


def test_a_picky_backbone_gets_the_sizes_that_it_takes(make_params):
    params = make_params(
        {"tune.space": {"backbone": ["inception_v3"], "input_size": [[45, 60], [75, 75]], "dropout": [0.5]}}
    )
    study = optuna.create_study()
    trial = study.ask()
    settings, _ = search_space.suggest(trial, params.tune, params.train)
    assert settings.input_size == (75, 75)
    assert "input_size of inception_v3" in trial.params


def test_a_space_of_unknown_fields_is_refused(make_params):
    with pytest.raises(ParamsError, match=r"space names \['epochs', 'lr'\]"):
        make_params({"tune.space": {"lr": [1], "epochs": [3]}})
    with pytest.raises(ParamsError, match="low must be below high"):
        make_params({"tune.space": {"dropout": {"low": 0.5, "high": 0.1, "log": False}}})


@pytest.mark.parametrize(
    ("name", "allowed", "told"),
    [
        ("dropout", ["x"], r'space.dropout cannot be "x": Input should be a valid number'),
        ("dropout", [0.1, 2], "space.dropout cannot be 2: Input should be less than or equal to 1"),
        ("dropout", {"low": 0.1, "high": 2.0, "log": False}, "space.dropout cannot be 2.0"),
        ("balance", ["weight"], 'space.balance cannot be "weight"'),
        ("symmetries", [1, 0], "space.symmetries cannot be 1: Input should be a valid boolean"),
        ("batch_size", [True], "space.batch_size cannot be true: Input should be a valid integer"),
        ("batch_size", {"low": 0, "high": 64, "log": False}, "space.batch_size cannot be 0"),
        ("max_shift", {"low": 0.5, "high": 4, "log": False}, "space.max_shift cannot be 0.5"),
        ("backbone", {"low": 1, "high": 2, "log": False}, "space.backbone cannot be 1.0"),
    ],
)
def test_a_value_that_train_cannot_have_is_refused_with_its_field(make_params, name, allowed, told):
    with pytest.raises(ParamsError, match=told):
        make_params({"tune.space": {name: allowed}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tune.space": {"backbone": ["compact", "resnet19"]}}, "tune.space.backbone: 'resnet19' is none of"),
        ({"tune.space": {"dropout": [0.1]}, "train.backbone": "resnet19"}, "train.backbone: 'resnet19' is none of"),
        (
            {"tune.space": {"backbone": ["compact", "inception_v3"], "input_size": [[45, 60], [60, 75]]}},
            r"tune.space.input_size: inception_v3 needs 75 px a side or more, got \[\[45, 60\], \[60, 75\]\]",
        ),
        (
            {"tune.space": {"backbone": ["compact", "inception_v3"]}},
            r"train.input_size: inception_v3 needs .*, got \[\[45, 60\]\]; add such a size to tune.space.input_size",
        ),
    ],
)
def test_a_backbone_that_no_trial_could_build_is_refused_at_the_start(tmp_path, changes, told):
    write_params(tmp_path, changes)
    with pytest.raises(ParamsError, match=told):
        tune.main(*arguments(tmp_path))


def test_yes_and_no_and_whole_numbers_can_be_searched(make_params):
    allowed = {
        "symmetries": [True, False],
        "batch_size": {"low": 16, "high": 128, "log": True},
        "max_shift": {"low": 0, "high": 4, "log": False},
    }
    params = make_params({"tune.space": allowed})
    study = optuna.create_study(sampler=ByNumber(params.tune))
    study.enqueue_trial(search_space.as_trial(params.train, params.tune))
    drawn = [search_space.suggest(study.ask(), params.tune, params.train) for _ in range(12)]
    assert drawn[0][0] == params.train
    assert {settings.symmetries for settings, _ in drawn} == {True, False}
    assert all(isinstance(chosen["batch_size"], int) and 16 <= chosen["batch_size"] <= 128 for _, chosen in drawn)
    assert {chosen["max_shift"] for _, chosen in drawn} <= {0, 1, 2, 3, 4}


def test_the_default_has_several_brackets_of_hyperband(params):
    assert params.tune.min_epochs * 3 <= params.tune.epochs


def test_the_first_trial_is_what_params_say(make_params):
    params = make_params()
    first = search_space.as_trial(params.train, params.tune)
    settings, _ = search_space.suggest(optuna.trial.FixedTrial(first), params.tune, params.train)
    assert settings == params.train


def test_a_failed_trial_is_kept_and_stops_nothing(make_params, study):
    def objective(trial):
        trial.set_user_attr("params", {})
        if trial.number == 1:
            raise ParamsError("no such weights")
        return trial.suggest_float("x", 0, 1)

    params = make_params({"tune.trials": 4, "tune.space": {"dropout": [0.1]}})
    optimize(study, objective, params.tune)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 3
    content = tune.summarise(study, params)
    assert content["trials"] == {"complete": 3, "fail": 1}
    assert content["failures"] == [{"number": 1, "reason": "ParamsError: no such weights", "params": {}}]
    assert content["best"]["value"] == max(t.value for t in study.trials if t.value is not None)


def test_where_all_trials_fail_the_reason_is_given(make_params, study):
    def objective(_):
        raise ParamsError("no such weights")

    params = make_params({"tune.trials": 2})
    optimize(study, objective, params.tune)
    with pytest.raises(DataError, match=r"no trial of 'a' ended well.*no such weights"):
        tune.summarise(study, params)


def test_the_minutes_end_a_search(make_params, study):
    params = make_params({"tune.trials": 1000, "tune.minutes": 0.01})

    def objective(trial):
        time.sleep(0.2)
        return trial.suggest_float("x", 0, 1)

    optimize(study, objective, params.tune)
    assert 2 <= len(study.trials) <= 4


def told(study, *trials):
    """Tell `study` of trials with (params, value)."""
    for params, value in trials:
        trial = study.ask()
        trial.set_user_attr("params", params)
        study.tell(trial, value)


def test_members_are_of_different_backbones_first(make_params, study):
    values = [("compact", 0.9), ("compact", 0.8), ("compact", 0.75), ("resnet18", 0.7), ("vgg19_bn", 0.6)]
    told(study, *(({"backbone": backbone, "dropout": value}, value) for backbone, value in values))

    def chosen(count):
        members = tune.summarise(study, make_params({"ensemble.members": count}))["members"]
        return [(each["params"]["backbone"], each["value"]) for each in members]

    assert chosen(2) == [("compact", 0.9), ("resnet18", 0.7)]
    assert chosen(4) == [("compact", 0.9), ("resnet18", 0.7), ("vgg19_bn", 0.6), ("compact", 0.8)]


def test_a_search_over_one_backbone_has_members_too_none_twice(make_params, study, caplog):
    told(study, ({"dropout": 0.1}, 0.7), ({"dropout": 0.2}, 0.9), ({"dropout": 0.2}, 0.8))
    params = make_params({"ensemble.members": 3})
    content = tune.summarise(study, params)
    assert [each["number"] for each in content["members"]] == [1, 0]
    assert [each.dropout for each in train.settings_of(params, content)["ensemble"]] == [0.2, 0.1]
    assert "ensemble" not in train.settings_of(params, tune.summarise(None, params))
    assert "no ensemble: the search found one fit only" in caplog.text


def test_best_is_replaced_at_once(tmp_path):
    tune._write(tmp_path / "best.json", {"best": 1})
    with (tmp_path / "best.json").open() as reader:
        tune._write(tmp_path / "best.json", {"best": 2})
        assert json.load(reader) == {"best": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]
    assert json.loads((tmp_path / "best.json").read_text()) == {"best": 2}


@pytest.mark.parametrize(
    ("place", "count", "visible", "gpu"),
    [
        (0, 0, None, None),
        (1, 2, None, "1"),
        (2, 2, None, "0"),
        (0, 2, "2,3", "2"),
        (3, 2, "2,3", "3"),
        (1, 0, "", None),
    ],
)
def test_a_worker_gets_one_of_the_gpus_that_are_seen(place, count, visible, gpu):
    assert launcher.gpu_of(place, count, visible) == gpu


def test_without_trials_the_section_train_stands(make_params):
    content = tune.summarise(None, make_params())
    assert content["best"]["params"] == {}
    assert len(content["members"]) == 1


def cheap(trial):
    """Highest, 0, at a rate of 3e-3, a decay of 0.02 and backbone b; as flat and bumpy as real ones."""
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    decay = trial.suggest_float("decay", 1e-4, 1.0, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.9)
    penalty = {"a": 0.3, "b": 0.0, "c": 0.5}[trial.suggest_categorical("backbone", ["a", "b", "c"])]
    return -penalty - math.log10(rate / 3e-3) ** 2 - 0.5 * math.log10(decay / 0.02) ** 2 - (dropout - 0.2) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [("tpe", 60), ("gp", 6)])
def test_the_search_beats_chance_on_a_known_optimum(make_params, name, seeds):
    """With the same budget of trials; the Gaussian process is slower, and so far ahead that few seeds show it."""

    def regret(which, seed):
        params = make_params({"tune.sampler": which, "tune.startup_trials": 8, "tune.seed": seed}).tune
        study = optuna.create_study(direction="maximize", sampler=ByNumber(params))
        study.optimize(cheap, n_trials=30)
        return -study.best_value

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ours, chance = ([regret(which, seed) for seed in range(seeds)] for which in (name, "random"))
    assert np.mean(ours) < 0.6 * np.mean(chance)
    assert wilcoxon(ours, chance, alternative="less").pvalue < 0.02


@pytest.mark.parametrize("which", ["tpe", "gp", "random"])
def test_no_two_trials_of_a_study_draw_the_same(make_params, tmp_path, which):
    params = make_params({"tune.sampler": which}).tune

    def drawn(name, *opened):
        """Begin a trial for each of `opened`, which says whether its process opens the study just before."""
        store, values = storage(tmp_path / name), []
        study = optuna.create_study(study_name="a", storage=store, sampler=ByNumber(params))
        for anew in opened:
            if anew:
                study = optuna.load_study(study_name="a", storage=store, sampler=ByNumber(params))
            trial = study.ask()
            values.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, values[-1])
        return values

    once = drawn("once", False, False, False, False)
    assert len(set(once)) == 4
    assert drawn("again", False, False, False, False) == once
    assert drawn("resumed", False, False, True, True) == once, "and none of the first two again"
    # Two shells begin at once.
    store = storage(tmp_path / "shells")
    samplers = [ByNumber(params) for _ in range(2)]
    optuna.create_study(study_name="a", storage=store)
    trials = [optuna.load_study(study_name="a", storage=store, sampler=each).ask() for each in samplers]
    assert len({trial.suggest_float("x", 0, 1) for trial in trials}) == 2


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with cells and splits, and an MLflow store of its own."""
    params = write_params(tmp_path, SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    ingest.main(params, write_export(tmp_path / "data", np.random.default_rng(0)), tmp_path / "cells")
    split.main(params, tmp_path / "cells", tmp_path / "splits.parquet")
    yield tmp_path
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


def command(folder):
    options = ("--params", "--task", "--cells", "--splits", "--journal", "--out", "--plots")
    pairs = zip(options, map(str, arguments(folder)), strict=True)
    return [sys.executable, "-m", "pipelines.stages.tune", *(part for pair in pairs for part in pair)]


def arguments(folder):
    paths = ("cells", "splits.parquet", "study.journal", "best.json", "search")
    return [folder / "params.yaml", "binary", *(folder / name for name in paths)]


@pytest.mark.slow
def test_trials_are_runs_below_their_study(project):
    tune.main(*arguments(project))
    best = json.loads((project / "best.json").read_text())
    assert sum(best["trials"].values()) == 3
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fatescope-binary").experiment_id
    [parent] = client.search_runs([experiment], f"run_name = 'tune {best['study']}'")
    below = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {run.info.run_name for run in below} == {"trial 0", "trial 1", "trial 2"}
    for run in below:
        assert run.info.status == "FINISHED"
        assert run.data.params["backbone"] in {"compact", "mobilenet_v2"}
        assert len(run.data.tags["data_hash"]) > 10
        assert len(run.data.tags["splits_hash"]) == 64
        assert len(client.get_metric_history(run.info.run_id, "validation_loss")) >= 1
    assert {"history.png", "slice.png"} <= {each.path for each in client.list_artifacts(parent.info.run_id)}
    # Another call finds the budget spent, and a larger budget goes on with the same trials.
    tune.main(*arguments(project))
    assert json.loads((project / "best.json").read_text()) == best
    write_params(project, SPACE | {"tune.trials": 4})
    tune.main(*arguments(project))
    again = json.loads((project / "best.json").read_text())
    assert again["study"] == best["study"]
    assert sum(again["trials"].values()) == 4
    # Other cells, splits or settings are another study.
    write_params(project, SPACE | {"train.dropout": 0.3, "tune.trials": 1})
    tune.main(*arguments(project))
    assert json.loads((project / "best.json").read_text())["study"] != best["study"]


@pytest.mark.slow
def test_a_killed_search_goes_on_without_losing_a_trial(project):
    write_params(project, SPACE | {"tune.epochs": 40, "train.patience": 99, "tune.min_epochs": 40})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def states():
        try:
            study = optuna.load_study(study_name=None, storage=storage(project / "study.journal"))
        except (KeyError, ValueError):
            return []
        # One that has its parameters is under way.
        known = study.get_trials(deepcopy=False)
        return [trial.state for trial in known if "params" in trial.user_attrs or trial.state.is_finished()]

    with subprocess.Popen(command(project), cwd=project, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while states().count(TrialState.COMPLETE) < 1 or TrialState.RUNNING not in states():
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = states()
    finished = before.count(TrialState.COMPLETE)
    assert before[-1] == TrialState.RUNNING
    write_params(project, SPACE | {"tune.epochs": 40, "train.patience": 99, "tune.min_epochs": 40, "tune.trials": 2})
    subprocess.run(command(project), cwd=project, env=environment, stderr=subprocess.DEVNULL, check=True)
    best = json.loads((project / "best.json").read_text())
    assert best["trials"]["fail"] == 1
    assert best["trials"]["complete"] == max(2, finished)
    [killed] = best["failures"]
    assert killed["reason"] == "killed with its process; tried again"
    study = optuna.load_study(study_name=None, storage=storage(project / "study.journal"))
    assert study.trials[killed["number"] + 1].params == study.trials[killed["number"]].params


def test_a_trial_killed_before_it_named_its_worker_is_tried_again(tmp_path, monkeypatch):
    study = optuna.create_study(storage=storage(tmp_path / "study.journal"))
    study.enqueue_trial({"x": 3})
    study.ask()
    revive(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING], "it may be about to say it"
    monkeypatch.setattr("pipelines.tuning.study._NAMED_S", 0.0)
    revive(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.ask().suggest_int("x", 0, 9) == 3


def abandoned(study, hours, **attributes):
    """Add a trial that a process began so many hours ago, and that has died since."""
    worker = {"worker": f"{socket.gethostname()}:{2**30}", "begun": "1", "params": {}}
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=worker, **attributes)
    trial.datetime_start = datetime.now() - timedelta(hours=hours)  # noqa: DTZ005  as Optuna has it
    study.add_trial(trial)
    return study.trials[-1]


def test_the_night_after_a_kill_costs_no_minutes(make_params, study):
    abandoned(study, hours=9)
    revive(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    params = make_params({"tune.trials": 2, "tune.minutes": 1}).tune
    assert spent_minutes(study, params) == 0
    optimize(study, lambda trial: trial.suggest_float("x", 0, 1), params)
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

    with pytest.raises(KeyboardInterrupt), stoppable():
        work()
    assert put_in_order
    assert signal.getsignal(signal.SIGTERM) == before


GOOD = {"train_loss": 0.7, "validation_loss": 0.7, "validation_balanced_accuracy": 0.6}


@pytest.fixture
def fits(monkeypatch):
    """Replace fits by functions, of which each takes `report` and the last stands for all that come after."""

    def replace(*functions):
        left = list(functions)

        def fit(_, __, ___, ____, report):
            (left.pop(0) if len(left) > 1 else left[0])(report)

        monkeypatch.setattr(trainer, "fit", fit)

    return replace


def good(report):
    report(0, GOOD)


def runs():
    """Return name → run of the trials."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fatescope-binary").experiment_id
    found = client.search_runs([experiment], "tags.mlflow.parentRunId != ''")
    return {run.info.run_name: run for run in found}


def stored(folder):
    return optuna.load_study(study_name=None, storage=storage(folder / "study.journal"))


@pytest.mark.slow
def test_an_interrupted_trial_is_put_in_line_again(project, fits):
    def interrupted(report):
        report(0, GOOD)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    fits(good, interrupted, good)
    with pytest.raises(KeyboardInterrupt):
        tune.main(*arguments(project))
    assert [trial.state for trial in stored(project).trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.WAITING,
    ]
    assert runs()["trial 1"].info.status == "KILLED"
    parent = runs()["trial 1"].data.tags["mlflow.parentRunId"]
    assert mlflow.get_run(parent).info.status == "KILLED"
    tune.main(*arguments(project))
    assert mlflow.get_run(parent).info.status == "FINISHED"
    best = json.loads((project / "best.json").read_text())
    assert best["trials"] == {"complete": 3, "fail": 1}
    assert best["failures"][0]["reason"] == "killed with its process; tried again"
    known = stored(project).trials
    assert known[2].params == known[1].params


def test_a_trial_that_is_tried_again_has_passed_no_rung():
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(0.9, 2)
    assert not trial.should_prune()
    assert any("rung" in name for name in study.trials[0].system_attrs)
    study.tell(trial, state=TrialState.FAIL)
    _retry(study, study.trials[0])
    waiting = study.trials[1]
    assert waiting.params == study.trials[0].params
    assert set(waiting.system_attrs) == {"failed_trial", "retry_history"}


@pytest.mark.slow
def test_a_trial_that_was_killed_for_the_last_time_is_not_told_as_running(project, fits):
    fits(good)
    tune.main(*arguments(project))
    study = stored(project)
    left = mlflow.MlflowClient().create_run(mlflow.get_experiment_by_name("fatescope-binary").experiment_id)
    history = {"retry_history": [90, 91, 92]}
    trial = abandoned(study, 1, system_attrs=history)
    study._storage.set_trial_user_attr(trial._trial_id, "run_id", left.info.run_id)
    tune.main(*arguments(project))
    assert stored(project).trials[trial.number].state == TrialState.FAIL
    assert mlflow.get_run(left.info.run_id).info.status == "KILLED"
    [failure] = json.loads((project / "best.json").read_text())["failures"]
    assert failure["reason"] == "killed with its process, for the last time"


@pytest.mark.slow
def test_a_fit_that_diverges_fails_with_its_reason_and_the_search_goes_on(project, fits, monkeypatch):
    def diverged(report):
        # As on another machine, where the current folder is not the project's.
        (project / "elsewhere").mkdir()
        monkeypatch.chdir(project / "elsewhere")
        report(0, GOOD)
        raise ParamsError("train.learning_rate: with 1, validation_loss is nan")

    monkeypatch.setattr(tracking, "git_commit", lambda: "abc" if Path.cwd() == project else "of elsewhere")
    fits(good, diverged, good)
    tune.main(*arguments(project))
    best = json.loads((project / "best.json").read_text())
    assert best["trials"] == {"complete": 2, "fail": 1}
    assert best["failures"][0]["reason"].startswith("ParamsError: train.learning_rate: with 1, validation_loss is nan")
    told = runs()
    assert {name: run.info.status for name, run in told.items()} == {
        "trial 0": "FINISHED",
        "trial 1": "FAILED",
        "trial 2": "FINISHED",
    }
    assert "validation_loss is nan" in told["trial 1"].data.tags["reason"]
    assert {run.data.tags["mlflow.source.git.commit"] for run in told.values()} == {"abc"}


@pytest.mark.slow
def test_workers_share_a_study(project):
    write_params(project, SPACE | {"tune.workers": 2, "tune.trials": 4})
    tune.main(*arguments(project))
    study = optuna.load_study(study_name=None, storage=storage(project / "study.journal"))
    assert 4 <= len(study.trials) <= 5
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 2
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_pictures_count_pruned_trials_with_what_they_reached(tmp_path, study):
    for number, (state, value) in enumerate([("ok", 0.5), ("cut", 0.4), ("ok", 0.7), ("cut", 0.3), ("failed", 0.0)]):
        trial = study.ask()
        trial.suggest_float("dropout", 0, 1)
        trial.suggest_categorical("input_size", ["[45, 60]", "[60, 60]"])
        if state == "ok":
            study.tell(trial, value)
        elif state == "cut":
            trial.report(value, number)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, state=TrialState.FAIL)
    shown = plots.as_shown(study)
    assert sorted(trial.value for trial in shown.trials) == [0.3, 0.4, 0.5, 0.7]
    assert {trial.params["input_size"] for trial in shown.trials} <= {"45x60", "60x60"}
    plots.draw(study, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"history.png", "importance.png", "slice.png"}
