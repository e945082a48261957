"""The committed bundles, and a service that serves them."""

import shutil

import mlflow
import pytest

from fatescope.inference import bundle
from tests.support.bundles import COMMITTED, EXACT, copy_bundle
from tests.support.images import draw_cell
from tests.support.project import ROOT
from tests.support.servers import serving
from tests.support.tracking import new_store


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "committed"
    shutil.copytree(COMMITTED, folder, ignore=shutil.ignore_patterns("README.md"))
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        yield client


@pytest.fixture
def cell(rng):
    return draw_cell(rng)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """An MLflow registry; `registry(seed)` adds a version of the binary model as an alias and returns its number.

    Fields of its spec may be other ones than those of the committed bundle.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    mlflow.set_tracking_uri(None)

    def add(seed, alias="champion", **changed):
        folder = copy_bundle(tmp_path / f"made{seed}" / "bundle", "binary", seed)
        if changed:
            bundle.finalize(folder, bundle.read_spec(folder).model_copy(update=changed))
        # As `pipelines.stages.register` leaves it: a model with the bundle among its artifacts.
        name, client = "fatescope-binary", mlflow.MlflowClient()
        # Another test may have left the experiment of another store as the one in use.
        mlflow.set_experiment("served")
        with mlflow.start_run():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(ROOT / "pipelines" / "registry" / "pyfunc.py"),
                artifacts={"bundle": str(folder)},
                code_paths=[str(ROOT / "fatescope")],
                pip_requirements=[],
                registered_model_name=name,
            )
        client.set_registered_model_alias(name, alias, info.registered_model_version)
        return str(info.registered_model_version)

    yield add
    mlflow.set_tracking_uri(None)
