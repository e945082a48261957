import json
import os
import subprocess
import sys
import time

import mlflow
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle
from service.registry import model_store
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.project import ROOT


def test_no_model_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(BundleError, match="no bundle folder in it; run `make repro`"):
        model_store.list_champions(tmp_path)


@pytest.mark.slow
def test_a_folder_of_bundles_needs_no_registry(tmp_path):
    copy_bundle(tmp_path / "multiclass", "multiclass")
    copy_bundle(tmp_path / "binary", "binary")
    found = model_store.list_champions(tmp_path)
    assert list(found) == ["multiclass", "binary"], "the default task comes first"
    assert model_store.read_spec(found["binary"]).classes == CLASSES[:2]
    assert model_store.locate(tmp_path, "binary", found["binary"].version) == tmp_path / "binary"
    with pytest.raises(BundleError, match="version 7 of fatescope-binary is not here"):
        model_store.locate(tmp_path, "binary", "7")
    (tmp_path / "binary").rename(tmp_path / "other")
    with pytest.raises(BundleError, match="a bundle of task 'binary'; name the folder after its task"):
        model_store.read_spec(model_store.list_champions(tmp_path)["other"])


def test_a_bundle_that_was_changed_is_not_served(tmp_path):
    copy_bundle(tmp_path / "binary", "binary")
    (tmp_path / "binary" / bundle.OUTLIERS).write_bytes(b"")
    with pytest.raises(BundleError, match=r"fatescope-binary version .* is not served: .*was changed or damaged"):
        model_store.read_spec(model_store.list_champions(tmp_path)["binary"])


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """An MLflow registry; `registry(seed)` adds a version of the binary model and returns its number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)

    def add(seed):
        copy_bundle(tmp_path / f"made{seed}" / "bundle", "binary", seed)
        # As `pipelines.stages.register` leaves it: a model with the bundle among its artifacts.
        name, client = "fatescope-binary", mlflow.MlflowClient()
        # Another test may have left the experiment of another store as the one in use.
        mlflow.set_experiment("served")
        with mlflow.start_run():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(ROOT / "pipelines" / "registry" / "pyfunc.py"),
                artifacts={"bundle": str(tmp_path / f"made{seed}" / "bundle")},
                code_paths=[str(ROOT / "fatescope")],
                pip_requirements=[],
                registered_model_name=name,
            )
        client.set_registered_model_alias(name, "champion", info.registered_model_version)
        return str(info.registered_model_version)

    yield add
    mlflow.set_tracking_uri(None)


EXAMPLE = "binary=3,multiclass=champion"


def follow(folder, environment=None):
    return subprocess.Popen(
        [sys.executable, "-m", "service.registry.registry_sync", str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_champions_of_a_registry_are_followed(registry, tmp_path):
    first, folder = registry(0), tmp_path / "followed"
    follower = follow(folder, {"FATESCOPE_POLL_S": "0.2"})
    try:
        assert json.loads(follower.stdout.readline()) == {"serving": {"binary": first}}
        champion = model_store.list_champions(folder)["binary"]
        assert model_store.read_spec(champion).classes == CLASSES[:2]
        second = registry(1)
        end = time.monotonic() + 20
        while model_store.list_champions(folder)["binary"].version != second:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert model_store.read_spec(model_store.list_champions(folder)["binary"])
        assert model_store.locate(folder, "binary", first).is_dir(), "requests may still be answered by it"
        follower.stdin.close()
        assert follower.wait(10) == 0, "it ends with the process that started it"
    finally:
        follower.kill()
        follower.stdout.close()


@pytest.mark.slow
def test_versions_may_be_pinned(registry, tmp_path):
    first = registry(0)
    registry(1)
    for pins, said in (
        (f"binary={first}", {"serving": {"binary": first}}),
        (
            "binary",
            {"error": f"FATESCOPE_PIN=binary: 'binary' is not TASK=VERSION; write for example {EXAMPLE}"},
        ),
    ):
        follower = follow(tmp_path / "pinned", {"FATESCOPE_PIN": pins})
        out, _ = follower.communicate("", timeout=60)
        assert json.loads(out) == said
    follower = follow(tmp_path / "pinned", {"FATESCOPE_PIN": "binary=99"})
    out, _ = follower.communicate("", timeout=60)
    assert "99" in json.loads(out)["error"]
