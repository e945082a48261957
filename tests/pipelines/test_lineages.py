"""All stages on nine lineages in unequal numbers, with an ensemble that is distilled."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from fatescope import config
from fatescope.config import presets
from fatescope.data import dataset
from fatescope.inference import bundle
from pipelines.commands import simulate
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_stages

pytestmark = pytest.mark.long

TASK = "lineages"
FEW = {
    "simulate.cells": 600, "simulate.days": [5], "simulate.marker_channels": 0, "simulate.darkfield": False,
    "validate.min_cells_per_class": 10, "train.epochs": 3, "train.batch_size": 32, "train.seeds": [0],
    "ensemble.members": 2, "train.distil": True, "gate.signed_off": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(None)
        changes = {name: value for name, value in CHANGES.items() if name != "dataset.tasks"}
        params = write_params(folder, changes | FEW)
        presets.apply_preset(params, "lineages")
        simulate.simulate(config.load(params).simulate, folder / "data", workers=1)
        run_stages(folder, params, TASK)
        mlflow.set_tracking_uri(None)
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return config.load(folder / "params.yaml")


def test_rare_lineages_are_on_every_side(folder, settings):
    labels = dataset.load(folder / "artifacts/cells", ["label"]).manifest["label"].to_numpy(str)
    parts = pd.read_parquet(folder / "artifacts/splits.parquet")
    counts = pd.crosstab(labels, parts["grouped"].to_numpy(str))
    assert set(counts.index) == set(settings.classes(TASK))
    assert counts.loc["progenitor"].sum() > 7 * counts.loc["microglia"].sum()
    assert (counts[["train", "validation", "test"]] > 0).all().all()


def test_every_class_is_reported(folder, settings):
    metrics = json.loads((folder / "reports" / TASK / "metrics.json").read_text())
    classes, served = settings.classes(TASK), metrics["splits"]["grouped"]
    assert metrics["classes"] == classes
    assert np.shape(served["confusion"]) == (9, 9)
    assert set(served["auc"]) == set(served["trust"]["coverage_by_class"]) == set(classes)
    calls = served["trust"]["calls"]
    assert sum(call["share"] for call in calls.values()) == pytest.approx(1)
    thresholds = bundle.read_spec(folder / "artifacts" / TASK / "bundle").coarse_thresholds
    assert set(thresholds) <= set(settings.dataset.hierarchy[TASK])
    # Such few cells prove of no threshold that calls are right; then none is made.
    assert thresholds or calls["coarse"]["share"] == 0
    assert set(metrics["candidates"]) == {"single", "ensemble", "distilled"}
    assert metrics["candidates"]["distilled"]["multiply_adds"] < metrics["candidates"]["ensemble"]["multiply_adds"]
    card = (folder / "reports" / TASK / "card.md").read_text()
    assert "neuron (RA/SHH, NT3, dopaminergic), glia (astrocyte, oligodendrocyte, microglia, Schwann)" in card
    assert "| a coarse class | " in card


def test_the_bundle_calls_coarsely_and_composes_nine_shares(folder, settings):
    model = bundle.load(folder / "artifacts" / TASK / "bundle", threads=1)
    assert model.spec.hierarchy == settings.dataset.hierarchy[TASK]
    cells = dataset.load(folder / "artifacts/cells").pixels[::5]
    assessment = model.assess(model.predict(np.asarray(cells)))
    estimate = bundle.compose(assessment.probabilities, model.spec)
    assert estimate.shares.shape == (9,)
    assert estimate.shares.sum() == pytest.approx(1)
    assert (estimate.low <= estimate.high).all()
    [answer] = model.classify([cells[0]])
    assert answer.label in model.spec.classes
