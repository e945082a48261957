"""The stage `tune`: runs of trials, and how a search goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fatescope.data import splits
from fatescope.data.dataset import load as load_cells
from fatescope.errors import ParamsError
from pipelines.registry import tracking
from pipelines.stages import ingest, split, tune
from pipelines.training import trainer
from pipelines.training.budget import Speed
from pipelines.training.examples import load_search_examples
from pipelines.tuning import objective
from pipelines.tuning.objective import Objective
from pipelines.tuning.result import SearchResult
from tests.support.clocks import TickingClock
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import ROOT
from tests.support.studies import add_lost_trial, open_journal
from tests.support.tracking import new_store

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


@pytest.mark.parametrize(
    ("changes", "message"),
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
def test_a_backbone_that_no_trial_could_build_is_refused_at_the_start(tmp_path, changes, message):
    write_params(tmp_path, changes)
    with pytest.raises(ParamsError, match=message):
        tune.main(*arguments(tmp_path))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with cells and splits, and an MLflow store of its own."""
    params = write_params(tmp_path, SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
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
            study = optuna.load_study(study_name=None, storage=open_journal(project / "study.journal"))
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
    study = optuna.load_study(study_name=None, storage=open_journal(project / "study.journal"))
    assert study.trials[killed["number"] + 1].params == study.trials[killed["number"]].params


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
    return optuna.load_study(study_name=None, storage=open_journal(folder / "study.journal"))


@pytest.fixture
def clock(monkeypatch):
    """The clock of trials: a step takes a second, and reading it takes no time."""
    clock = TickingClock(0.0)
    monkeypatch.setattr(tune, "Objective", partial(Objective, clock=clock))
    monkeypatch.setattr(objective, "measure_speed", lambda *_: Speed(step_s=1.0, cell_s=0.0, asked_s=0.0))
    return clock


@pytest.mark.slow
def test_a_trial_that_would_not_end_in_time_is_not_started(project, fits, clock):  # noqa: ARG001  they are replaced
    """Of batches of 4, an epoch has more steps than of batches of 8."""
    fits(good)
    space = {"tune.space": {"batch_size": [4, 8]}, "train.batch_size": 4, "tune.trials": 8}
    divided = splits.load(project / "splits.parquet")
    cells = len(load_search_examples(load_cells(project / "cells"), divided, ["astrocyte", "oligodendrocyte"]).train)
    fast, slow = (2 * (cells // size) / 60 for size in (8, 4))
    write_params(project, SPACE | space | {"tune.minutes": (fast + slow) / 2})
    tune.main(*arguments(project))
    best = SearchResult.load(project / "best.json")
    assert best.best.params["batch_size"] == 8
    assert {failure.params["batch_size"] for failure in best.failures} == {4}
    assert best.failures[0].reason.startswith("TrialTooLongError: it takes about")
    run = runs()[f"trial {best.failures[0].number}"]
    assert (run.info.status, run.data.tags["too_long"]) == ("FINISHED", "true")
    # With minutes enough, it is tried again.
    write_params(project, SPACE | space)
    tune.main(*arguments(project))
    again = SearchResult.load(project / "best.json")
    assert again.study == best.study
    assert any(failure.reason.endswith("; tried again") for failure in again.failures)


@pytest.mark.slow
def test_a_trial_that_becomes_slow_is_stopped_and_has_no_value(project, fits, clock):
    def slow(report):
        for epoch in range(2):
            clock.now_s += 50
            report(epoch, GOOD)

    fits(slow)
    write_params(project, SPACE | {"tune.minutes": 0.7, "tune.trials": 2})
    tune.main(*arguments(project))
    assert [trial.state for trial in stored(project).trials] == [TrialState.FAIL, TrialState.FAIL]
    best = SearchResult.load(project / "best.json")
    assert (best.best.number, best.best.params) == (None, {})
    # One that is late in its last epoch has its whole schedule.
    write_params(project, SPACE | {"tune.minutes": 0.9, "tune.trials": 3})
    tune.main(*arguments(project))
    assert stored(project).trials[2].state == TrialState.COMPLETE


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


@pytest.mark.slow
def test_a_trial_that_was_killed_for_the_last_time_is_not_told_as_running(project, fits):
    fits(good)
    tune.main(*arguments(project))
    study = stored(project)
    left = mlflow.MlflowClient().create_run(mlflow.get_experiment_by_name("fatescope-binary").experiment_id)
    history = {"retry_history": [90, 91, 92]}
    trial = add_lost_trial(study, 1, system_attrs=history)
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
    study = optuna.load_study(study_name=None, storage=open_journal(project / "study.journal"))
    assert 4 <= len(study.trials) <= 5
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 2
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
