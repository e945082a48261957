"""What the tests of several stages share: one line, run once from an export up to the card."""

import mlflow
import numpy as np
import pytest

from pipelines.stages import audit, card, evaluate, ingest, split, train, tune
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Run the stages up to the card on made-up cells, with an MLflow store of their own; return the folder."""
    folder = tmp_path_factory.mktemp("line")
    params, artifacts, reports = write_params(folder, CHANGES), folder / "artifacts", folder / "reports"
    cells, parts, models = artifacts / "cells", artifacts / "splits.parquet", artifacts / "binary"
    told = reports / "binary"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(None)
        ingest.main(params, write_export(folder / "data", np.random.default_rng(0)), cells)
        split.main(params, cells, parts)
        audit.main(params, cells, parts, reports / "audit.json", reports / "audit")
        best = models / "best.json"
        tune.main(params, "binary", cells, parts, models / "study.journal", best, told / "search")
        train.main(params, "binary", cells, parts, best, models)
        evaluate.main(
            params, "binary", cells, parts, reports / "audit.json", models, models / "predictions.parquet",
            told / "metrics.json", told / "plots", told / "tables",
        )  # fmt: skip
        card.main(params, "binary", cells, models, told / "metrics.json", reports / "audit.json", told / "plots", told)
    mlflow.set_tracking_uri(None)
    return folder


@pytest.fixture
def line(folder, monkeypatch):
    """The artifacts of the line, from within its folder and with its MLflow store."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(None)
    yield folder / "artifacts"
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def empty_registry(folder, tmp_path, monkeypatch):  # noqa: ARG001  after `folder`, whose store it replaces
    """A server that knows nothing of the runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    yield mlflow.MlflowClient()
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)
