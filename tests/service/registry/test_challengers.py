"""The versions that challenge: which they are, and that the champions do not depend on them."""

import json
from pathlib import Path

import mlflow
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.signing.signature import SignatureError
from service.registry import challengers, downloads, model_store, registry_queries, registry_sync
from service.registry.downloads import Downloads
from tests.support.bundles import COMMITTED, copy_bundle


def test_a_folder_of_bundles_may_have_challengers_which_are_no_task(tmp_path):
    copy_bundle(tmp_path / "binary", "binary")
    assert challengers.read_challengers(tmp_path) == {}
    copy_bundle(challengers.folder(tmp_path) / "binary", "binary", seed=3)
    found = challengers.read_challengers(tmp_path)["binary"]
    assert model_store.read_spec(found).seed == 3
    assert list(model_store.list_champions(tmp_path)) == ["binary"]
    assert model_store.list_champions(tmp_path)["binary"].version != found.version


def test_versions_of_other_classes_or_channels_are_not_compared():
    spec, other = (bundle.read_spec(COMMITTED / task) for task in ("binary", "multiclass"))
    assert challengers.why_incomparable(spec, spec.model_copy(update={"classes": spec.classes[::-1]})) is None
    assert "its classes are" in challengers.why_incomparable(spec, other)
    channels = {"1": "brightfield", "9": "darkfield"}
    assert "takes the channels" in challengers.why_incomparable(spec, spec.model_copy(update={"channels": channels}))


def in_step(store, champions, tell=registry_sync._warn):
    """Have the challengers of `champions` in the store; return what does it."""
    fetching = Downloads(challengers.folder(store), tell)
    registry_sync.sync_challengers(fetching, champions)
    fetching.wait()
    return fetching


def test_challengers_that_cannot_be_fetched_leave_the_champions_alone(tmp_path, monkeypatch, capsys):
    def away(_):
        raise BundleError("the registry cannot be read")

    monkeypatch.setattr(registry_queries, "challenging_versions", away)
    in_step(tmp_path, {"binary": "1"})
    assert "not in step with the registry: the registry cannot be read" in capsys.readouterr().err


def test_no_error_of_a_store_of_artifacts_ends_the_follower(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("an error of botocore")

    monkeypatch.setattr(registry_queries, "challenging_versions", lambda _: {"binary": "2"})
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail)
    in_step(tmp_path, {"binary": "1"})
    assert "version 2 cannot be downloaded: an error of botocore" in capsys.readouterr().err
    with pytest.raises(BundleError, match="an error of botocore"):
        downloads.download(Downloads(tmp_path), {"binary": "1"})


def test_a_challenger_that_is_refused_is_not_fetched_at_each_query(tmp_path, monkeypatch, capsys):
    fetched, now = [], [1000.0]

    def refuse(_, version, _folder):
        fetched.append(version)
        raise SignatureError("it is not signed")

    monkeypatch.setattr(registry_queries, "challenging_versions", lambda _: {"binary": "2"})
    monkeypatch.setattr(registry_queries, "fetch", refuse)
    monkeypatch.setattr(downloads.time, "monotonic", lambda: now[0])
    fetching = Downloads(challengers.folder(tmp_path), registry_sync._warn)
    for now[0] in (1000.0, 1030.0, 1059.0, 1060.0, 1090.0):
        registry_sync.sync_challengers(fetching, {"binary": "1"})
        fetching.wait()
    assert fetched == ["2", "2"]
    assert capsys.readouterr().err.count("it is not signed") == 2
    monkeypatch.setattr(registry_queries, "challenging_versions", lambda _: {"binary": "3"})
    registry_sync.sync_challengers(fetching, {"binary": "1"})
    fetching.wait()
    assert fetched[2:] == ["3"]


def test_the_service_starts_without_waiting_for_challengers(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setenv("FATESCOPE_SHADOW", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry_queries, "target_versions", lambda _: {"binary": "1"})
    monkeypatch.setattr(registry_sync, "download", lambda *_: {})
    monkeypatch.setattr(registry_sync, "sync_challengers", lambda *_: seen.append(capsys.readouterr().out))
    registry_sync.main(tmp_path / "store", once=True)
    assert [json.loads(line) for line in seen] == [{"serving": {"binary": "1"}}]


def test_the_alias_names_the_challenger_unless_it_is_the_champion_too(tmp_path, monkeypatch):
    aliased = {("binary", "challenger"): "2"}
    fetched = []

    def download(uri, dst_path):
        fetched.append(uri)
        copy_bundle(Path(dst_path) / "bundle", "binary", seed=2)
        return str(Path(dst_path) / "bundle")

    monkeypatch.setattr(mlflow, "MlflowClient", lambda: None)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    monkeypatch.setattr(registry_queries, "_find", lambda _, task, alias: aliased.get((task, alias)))
    fetching = in_step(tmp_path, {"binary": "1", "multiclass": "1"})
    found = challengers.read_challengers(tmp_path)
    assert {task: each.version for task, each in found.items()} == {"binary": "2"}
    assert fetched == ["models:/fatescope-binary/2/artifacts/bundle"]
    assert model_store.locate(challengers.folder(tmp_path), "binary", "2") == found["binary"].path
    # It was promoted.
    registry_sync.sync_challengers(fetching, {"binary": "2"})
    assert challengers.read_challengers(tmp_path) == {}
