"""What the tests of several stages share: the pipeline, run once from an export up to the card."""

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
    folder = tmp_path_factory.mktemp("pipeline")
    params, artifacts, reports = write_params(folder, CHANGES), folder / "artifacts", folder / "reports"
    cells, parts, models = artifacts / "cells", artifacts / "splits.parquet", artifacts / "binary"
    of_task = reports / "binary"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(None)
        ingest.main(params, write_export(folder / "data", np.random.default_rng(0)), cells)
        split.main(params, cells, parts)
        audit.main(params, cells, parts, reports / "audit.json", reports / "audit")
        best = models / "best.json"
        tune.main(params, "binary", cells, parts, models / "study.journal", best, of_task / "search")
        train.main(params, "binary", cells, parts, best, models)
        evaluate.main(
            params, "binary", cells, parts, reports / "audit.json", models, models / "predictions.parquet",
            of_task / "metrics.json", of_task / "plots", of_task / "tables",
        )  # fmt: skip
        card.main(
            params,
            "binary",
            cells,
            models,
            of_task / "metrics.json",
            reports / "audit.json",
            of_task / "plots",
            of_task,
        )
    mlflow.set_tracking_uri(None)
    return folder


@pytest.fixture
def artifacts(folder, monkeypatch):
    """The artifacts of the pipeline; the current folder and the MLflow store are those of the pipeline too."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(None)
    yield folder / "artifacts"
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def empty_registry(folder, tmp_path, monkeypatch):  # noqa: ARG001  after `folder`, whose store it replaces
    """A tracking server without any run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    yield mlflow.MlflowClient()
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)
