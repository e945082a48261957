"""Weights of a bundle that has learned from the cells of this project already."""

import json
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from fatescope import config
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.data.splits import load as load_splits
from fatescope.data.tracks import Tracks
from fatescope.errors import ParamsError
from fatescope.inference import bundle
from pipelines.evaluation.known_before import leave_out
from pipelines.stages import evaluate, ingest, split, train
from pipelines.training.known_before import check_known_before, hashes_known_before
from pipelines.training.report import TrainingReport
from pipelines.tuning.summary import without_search
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES
from tests.support.tracking import new_store

QUICK = CHANGES | {"train.epochs": 1, "train.seeds": [0], "tune.trials": 0, "ingest.workers": 1, "split.seed": 0}
ALL_LEFT = "train.weights: they were trained on all test cells of .* keep split.seed as it was"


def of_bundle(folder, hashes):
    """Write what a bundle says of its cells; return settings that begin with its weights."""
    folder.mkdir()
    save_file({"cells": np.array(hashes, np.int64)}, folder / bundle.SEEN)
    return SimpleNamespace(weights=str(folder / bundle.WEIGHTS))


def context(hashes, sides, tracks=None):
    """Return eight cells, of two classes in turn, under one scheme."""
    table = pd.DataFrame({"label": ["a", "b"] * 4, "grouped": sides, "random": None})
    manifest = pd.DataFrame({"label": table["label"], "pixel_hash": hashes})
    return SimpleNamespace(
        schemes=["grouped"],
        classes=["a", "b"],
        splits=Splits(table, {}),
        cells=CellDataset(manifest, np.zeros((8, 1, 1), np.uint16), {}),
        tracks=tracks,
    )


def test_only_weights_with_a_bundle_around_them_say_what_they_know(tmp_path):
    known, other = of_bundle(tmp_path / "one", [3, 1]), of_bundle(tmp_path / "other", [1, 7])
    (tmp_path / "alone").mkdir()
    nothing = [str(tmp_path / "alone/weights.safetensors"), "none", "imagenet", "a.pth"]
    assert hashes_known_before(nothing).tolist() == []
    assert hashes_known_before([known.weights, *nothing, other.weights]).tolist() == [1, 3, 7]


def test_another_image_of_a_known_cell_is_known_too():
    cells = context(range(8), ["test"] * 8).cells
    tracks = Tracks(np.array([0, 1, 0, 1, 2, 3, 4, 5]), np.zeros(8))
    rows = np.array([0, 1, 2, 4])
    assert leave_out(rows, cells, np.array([2, 6]), None).tolist() == [0, 1, 4]
    assert leave_out(rows, cells, np.array([2, 6]), tracks).tolist() == [1, 4]
    assert leave_out(rows, cells, np.array([], np.int64), tracks) is rows


def test_what_the_weights_know_is_told_before_training(tmp_path, caplog):
    sides = ["test"] * 4 + ["train"] * 2 + ["validation"] * 2
    check_known_before(context(range(8), sides), [of_bundle(tmp_path / "new", [99])])
    assert not caplog.records
    check_known_before(context(range(8), sides), [of_bundle(tmp_path / "some", [0, 4])])
    assert [record.getMessage()[:66] for record in caplog.records] == [
        "train.weights: they were trained on 1 of the 4 test cells of the s",
        "train.weights: they were trained on 1 of the 2 train cells of the ",
    ]
    assert "is calibrated on cells it knows" in caplog.text
    with pytest.raises(ParamsError, match=ALL_LEFT):
        check_known_before(context(range(8), sides), [of_bundle(tmp_path / "all", [1, 3])])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with cells of ten runs, their splits, and a model of them in `first`."""
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder))
        patch.chdir(folder)
        mlflow.set_tracking_uri(None)
        params = write_params(folder, QUICK)
        write_export(folder / "data", np.random.default_rng(0), runs=range(1, 11))
        ingest.main(params, folder / "data", folder / "cells")
        split.main(params, folder / "cells", folder / "splits.parquet")
        without_search().save(folder / "best.json")
        trained = [params, "binary", folder / "cells", folder / "splits.parquet", folder / "best.json"]
        train.main(*trained, folder / "first")
        weights = str(folder / "first/bundle/weights.safetensors")
        write_params(folder, QUICK | {"train.weights": weights})
        train.main(*trained, folder / "second")
    mlflow.set_tracking_uri(None)
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_no_cell_is_tested_that_the_weights_have_learned_from(stored):
    known = load_file(stored / "first/bundle" / bundle.SEEN)
    assert set(known) == {"cells"}
    cells, parts = dataset.load(stored / "cells", ["label"]), load_splits(stored / "splits.parquet")
    models = stored / "second"
    ran = evaluate.run_models(models, TrainingReport.load(models), cells, parts, 1)
    assert [model.scheme for model in ran] == ["grouped", "random"]
    for model in ran:
        tested = parts.indices(model.scheme, "test", model.evaluated.model.spec.classes)
        expected = leave_out(tested, cells, known["cells"], None)
        assert model.evaluated.rows.tolist() == expected.tolist()
        # A group that was not tested then is not tested now; cells of the other scheme are a part of these.
        assert (len(expected) == len(tested)) == (model.scheme == "grouped")
        seen = load_file(models / model.entry.folder / bundle.SEEN)
        assert seen[bundle.KNOWN_BEFORE].tolist() == known["cells"].tolist()
        # What is compared with it leaves these out as well.
        assert set(known["cells"].tolist()) <= set(seen["cells"].tolist())
    reference = pd.read_parquet(models / ran[1].entry.folder / bundle.REFERENCE)
    assert (~reference["seen"]).sum() == len(ran[1].evaluated.rows)
    assert json.loads((models / "bundle" / bundle.SPEC).read_text())["split"] == "grouped"
    assert config.load(stored / "params.yaml").train.weights.endswith("first/bundle/weights.safetensors")
