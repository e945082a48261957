import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from fatescope.config import load
from fatescope.errors import ParamsError
from pipelines.stages.train import _report as report_candidate
from pipelines.training import ensemble, selection, trainer
from pipelines.training.cross_fit import Fold, Folds, deal_folds
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict
from tests.support.images import draw_cell
from tests.support.project import ROOT


@pytest.fixture
def examples(rng):
    """Discs of two sizes."""
    targets = np.arange(96, dtype=np.int64) % 2
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    return Examples(pixels, targets, rows[:64], rows[64:])


@pytest.fixture
def settings(make_params):
    quick = {"backbone": "compact", "epochs": 12, "batch_size": 8, "learning_rate": 0.01, "patience": 99, "threads": 1}
    return lambda **changes: make_params(
        {f"train.{k}": v for k, v in {**quick, **changes}.items()} | {"train.seeds": [0, 1]}
    )


@pytest.fixture
def folds(examples):
    """Two folds of groups of eight cells."""
    groups = np.array([f"g{i // 8}" for i in range(96)])
    calibrate = load(ROOT / "params.yaml").calibrate.model_copy(update={"folds": 2})
    return deal_folds(examples, groups, calibrate, whole=True)


@pytest.fixture
def opened():
    """Names of the fits that were made, and what opens them."""
    names = []

    @contextmanager
    def open_run(name, _):
        names.append(name)
        yield lambda *_: None

    return names, open_run


@pytest.mark.slow
@pytest.mark.parametrize("join", ["probabilities", "embeddings"])
def test_candidates_are_scouted_cross_fitted_and_refitted(examples, folds, settings, opened, join):
    names, open_run = opened
    params = settings()
    params = params.model_copy(update={"ensemble": params.ensemble.model_copy(update={"join": join})})
    one, other = params.train, params.train.model_copy(update={"input_size": (60, 60)})
    single, joined = selection.train_candidates(examples, folds, 2, [[one], [one, other]], params, open_run)
    # The shared member was fitted once.
    assert names == ["candidate compact"] * 2 + ["fold 1 compact"] * 2 + ["fold 2 compact"] * 2
    assert (single.name, joined.name) == (selection.SINGLE, selection.ENSEMBLE)
    assert joined.model.parameters >= 2 * single.model.parameters
    assert joined.model.multiply_adds > 2 * single.model.multiply_adds
    assert min(single.calibration.balanced_accuracy, joined.calibration.balanced_accuracy) > 0.9
    made = selection.refit_candidate(joined, examples, 2, 1, params, open_run)
    assert names[6:] == ["refit compact seed 1"] * 2
    assert float(made.network.temperature) == pytest.approx(joined.calibration.temperature)
    found = predict(made.network, examples.pixels, examples.validation)
    assert (found.logits.argmax(1) == examples.targets[examples.validation]).mean() > 0.9
    assert (made.outliers.score(found.embedding) < joined.calibration.outlier_threshold).mean() > 0.8


@pytest.mark.parametrize("of_candidate", [None, 1, 2, 5])
@pytest.mark.parametrize("of_refit", [False, True])
def test_a_model_is_shortened_where_a_fit_of_it_or_of_its_candidate_was(
    examples, folds, settings, opened, monkeypatch, of_candidate, of_refit
):
    params, fit = settings(epochs=1), trainer.fit
    members = [params.train, params.train.model_copy(update={"dropout": 0.1})]
    # Two scouts, two fits a fold, two refits.
    shortened = iter([*(number == of_candidate for number in range(6)), of_refit, False])
    monkeypatch.setattr(trainer, "fit", lambda *args: fit(*args)._replace(shortened=next(shortened)))
    [candidate] = selection.train_candidates(examples, folds, 2, [members], params, opened[1])
    assert candidate.shortened == report_candidate(candidate).shortened == (of_candidate is not None)
    made = selection.refit_candidate(candidate, examples, 2, 0, params, opened[1])
    assert made.shortened == (of_candidate is not None or of_refit)


def test_cells_without_a_fold_that_are_of_one_group_are_told_before_the_first_fit(examples, settings, opened):
    groups = np.repeat([0, 1, 2], 32)
    examples = replace(examples, groups=groups)
    params = settings(groups="dro", epochs=1)
    # The training cells are of two groups, and of the two parts one.
    [first, second] = [
        Fold(examples.only(np.flatnonzero(part)), np.flatnonzero(~part)) for part in (groups < 2, groups == 2)
    ]
    folds = Folds([first, second], groups)
    with pytest.raises(ParamsError, match=r"train.groups: dro .* left without a fold .* are of one; set pooled"):
        selection.train_candidates(examples, folds, 2, [[params.train]], params, opened[1])
    assert opened[0] == []


def test_all_fits_after_the_first_take_as_many_steps_as_its_epochs_on_all_cells(
    examples, folds, settings, opened, monkeypatch
):
    params, fit, taken = settings(epochs=3), trainer.fit, []

    def fit_and_note(cells, classes, member, *others):
        taken.append((len(cells.train), len(cells.validation), member.epochs))
        return fit(cells, classes, member, *others)._replace(epochs=2)

    monkeypatch.setattr(trainer, "fit", fit_and_note)
    [candidate] = selection.train_candidates(examples, folds, 2, [[params.train]], params, opened[1])
    selection.refit_candidate(candidate, examples, 2, 0, params, opened[1])
    assert taken == [(64, 32, 3), (48, 0, 4), (48, 0, 4), (96, 0, 2)]


def test_the_cells_that_tell_of_all_are_few_and_of_every_class(monkeypatch):
    monkeypatch.setattr(ensemble, "SAMPLE", 20)
    targets = np.array([0] * 500 + [-1] * 10 + [1] * 3, np.int64)
    rows = np.r_[100:500, 510:513]
    chosen = ensemble.sample_classes(targets, rows)
    assert set(chosen) <= set(rows)
    assert np.bincount(targets[chosen]).tolist() == [10, 3]
    assert (chosen[0], chosen[9]) == (100, 499)


def test_the_layer_on_embeddings_is_that_of_logistic_regression(rng):
    embedding = rng.normal(size=(200, 5)).astype(np.float32) * 3 + 1
    targets = (embedding[:, 0] + 0.1 * embedding[:, 1] > 1).astype(np.int64)
    linear = torch.nn.Linear(5, 2)
    ensemble._fit_linear(linear, embedding, targets)
    with torch.inference_mode():
        assert (linear(torch.from_numpy(embedding)).argmax(1).numpy() == targets).mean() > 0.9


def test_a_network_expects_what_it_was_trained_on(examples, settings):
    few = Examples(examples.pixels, np.zeros(96, np.int64), examples.train, examples.validation)
    few.targets[:16] = 1
    weighed = settings().train
    counted = weighed.model_copy(update={"balance": "none"})

    def expected(join, *members):
        return ensemble.class_prior(few, 2, list(members), join).tolist()

    assert expected("probabilities", weighed) == [0.5, 0.5]
    assert expected("embeddings", counted) == [0.75, 0.25]
    assert expected("probabilities", counted, weighed) == [0.625, 0.375]
    assert expected("probabilities", counted, counted) == [0.75, 0.25]
    assert expected("embeddings", counted, counted) == [0.5, 0.5]


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from fatescope import config
from pipelines.settings import PipelineSettings
from pipelines.training import distributed
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict
from pipelines.training.trainer import fit
params = config.load(Path(sys.argv[1])).train
cells = np.load(sys.argv[2])
rows = np.arange(len(cells["targets"]))
examples = Examples(cells["pixels"], cells["targets"], rows[:64], rows[64:])
reports = []
with distributed.process_group(PipelineSettings()):
    network = fit(examples, 2, params, 0, lambda epoch, metrics: reports.append(metrics)).network
    assert bool(reports) == distributed.is_primary()
    logits = predict(network, examples.pixels, examples.validation).logits
    np.save(f"{sys.argv[3]}/{distributed.rank()}-of-{distributed.world_size()}.npy", logits)
"""


@pytest.mark.slow
def test_two_processes_fit_one_network(examples, settings, tmp_path):
    settings()  # writes params.yaml
    np.savez(tmp_path / "cells.npz", pixels=examples.pixels, targets=examples.targets)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(tmp_path / name) for name in ("program.py", "params.yaml", "cells.npz")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (np.load(tmp_path / f"{rank}-of-2.npy") for rank in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first.argmax(1) == examples.targets[64:]).mean() > 0.9
