"""What the tests of several stages share: the pipeline, run once from an export up to the card."""

import mlflow
import numpy as np
import pytest

from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_stages
from tests.support.tracking import new_store


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Run the stages up to the card on made-up cells, with an MLflow store of their own; return the folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    params = write_params(folder, CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(None)
        write_export(folder / "data", np.random.default_rng(0))
        run_stages(folder, params)
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
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    yield mlflow.MlflowClient()
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)
