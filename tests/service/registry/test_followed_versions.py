"""What the follower makes of a registry that is away, empty or without an alias."""

import json
import os
import subprocess
import sys

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion, RegisteredModel, RegisteredModelAlias

from fatescope.errors import BundleError
from fatescope.model_registry import is_missing
from service.registry import model_store, registry_queries
from tests.support.project import ROOT

SERVED = {"binary": "1", "multiclass": "2"}


class Page(list):
    token = None


class Client:
    """A registry of aliases, `None` for a model without one, that answers in pages of two or is away."""

    def __init__(self, models, error=None, listed=None):
        self.models, self.error, self.listed = models, error, models if listed is None else listed

    def search_registered_models(self, filter_string, page_token):
        assert filter_string == "name LIKE 'fatescope-%'"
        if self.error:
            raise self.error
        start = int(page_token or 0)
        names = sorted(self.listed)
        page = Page(self._model(name) for name in names[start : start + 2])
        page.token = str(start + 2) if start + 2 < len(names) else None
        return page

    def _model(self, name):
        aliases = [RegisteredModelAlias("champion", self.models[name])] if self.models[name] else []
        return RegisteredModel(f"fatescope-{name}", aliases=aliases)

    def get_model_version_by_alias(self, name, alias):
        assert alias == "champion"
        version = self.models.get(name.removeprefix("fatescope-"))
        if version is None:
            raise missing("INVALID_PARAMETER_VALUE")
        return ModelVersion(name, version, 0)


def missing(code):
    return mlflow.exceptions.RestException({"error_code": code, "message": "not found"})


@pytest.fixture
def registry(monkeypatch):
    """Set what the registry is."""

    # Where none is named, one in this folder is meant, and tests that ran before may have left or named one.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def set_to(models, **how):
        monkeypatch.setattr(mlflow, "MlflowClient", lambda: Client(models, **how))

    return set_to


def test_a_task_whose_alias_or_model_is_gone_is_gone(registry):
    registry({"binary": "1", "multiclass": None})
    assert registry_queries.followed_versions(None, SERVED) == {"binary": "1"}
    registry({"binary": "3"})
    assert registry_queries.followed_versions(None, SERVED) == {"binary": "3"}
    registry({"binary": None, "multiclass": None})
    assert registry_queries.followed_versions(None, SERVED) == {}


def test_a_task_that_a_list_lacks_is_asked_for_by_name(registry):
    registry({"binary": "1", "multiclass": "4"}, listed={"binary": "1"})
    assert registry_queries.followed_versions(None, SERVED) == {"binary": "1", "multiclass": "4"}


def test_all_tasks_are_found_however_many(registry):
    models = {f"task{i:03}": str(i) for i in range(1, 8)}
    registry(models)
    assert registry_queries.target_versions(None) == models


@pytest.mark.parametrize(
    "error",
    [
        mlflow.MlflowException("503"),
        mlflow.exceptions.RestException({"error_code": "PERMISSION_DENIED", "message": "no"}),
        # A proxy that answers for it, and what MLflow leaves as it is.
        mlflow.MlflowException("404, <html>", error_code=mlflow.exceptions.ErrorCode.Value("ENDPOINT_NOT_FOUND")),
        ConnectionResetError("reset"),
        ValueError("a page of a captive portal"),
    ],
)
@pytest.mark.parametrize("pins", [None, {"binary": "champion"}])
def test_an_outage_of_the_registry_is_no_answer(registry, monkeypatch, error, pins):
    registry({"binary": None}, error=error)

    def away(*_):
        raise error

    monkeypatch.setattr(Client, "get_model_version_by_alias", away)
    with pytest.raises(BundleError, match="the registry cannot be read"):
        registry_queries.followed_versions(pins, SERVED)


def test_an_empty_registry_is_another_one(registry):
    registry({})
    with pytest.raises(BundleError, match=r"no model at all, where it had those of \['binary', 'multiclass'\]"):
        registry_queries.followed_versions(None, SERVED)


def test_a_pin_that_is_gone_ends_its_task_and_one_that_never_was_is_an_error(registry):
    registry({"binary": None, "multiclass": "2"})
    pins = {"binary": "champion", "multiclass": "champion"}
    assert registry_queries.followed_versions(pins, SERVED) == {"multiclass": "2"}
    with pytest.raises(BundleError, match=r"there is no fatescope-binary version champion; correct FATESCOPE_PIN"):
        registry_queries.target_versions(pins)


def test_only_what_does_not_exist_is_missing():
    assert is_missing(missing("RESOURCE_DOES_NOT_EXIST"))
    assert is_missing(missing("INVALID_PARAMETER_VALUE"))
    for error in (missing("INTERNAL_ERROR"), missing("ENDPOINT_NOT_FOUND"), OSError(2, "gone"), ValueError()):
        assert not is_missing(error)


@pytest.mark.slow
def test_a_follower_that_is_started_again_while_the_registry_is_away_goes_on_with_what_is_served(tmp_path):
    folder = tmp_path / "followed"
    folder.mkdir()
    (folder / "champions.json").write_text('{"binary": "1"}')
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "FATESCOPE_POLL_S": "0.2",
    }
    command = [sys.executable, "-m", "service.registry.registry_sync", str(folder)]
    follower = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(2):
            assert "the registry cannot be read" in json.loads(follower.stdout.readline())["error"]
        assert model_store.list_champions(folder)["binary"].version == "1"
        follower.stdin.close()
        assert follower.wait(60) == 0
    finally:
        follower.kill()
        follower.stdout.close()
