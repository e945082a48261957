"""The registry: versions are listed, promoted, taken back and downloaded."""

import json
import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest

from fatescope.cli import doctor
from fatescope.inference import bundle
from pipelines.registry.records import Criterion, Verdict
from tests.support.untrained import write_bundle

NAME = "fatescope-binary"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of two versions of the task binary, the first its champion; the gate had refused the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    for seed, holds in enumerate((True, False)):
        # Where MLflow keeps what `register` logs: a model with the bundle among its artifacts.
        write_bundle(tmp_path / f"model{seed}" / "artifacts" / "bundle", "binary", ["a", "b"], seed)
        verdict = Verdict(
            task="binary",
            model=NAME,
            version=str(seed + 1),
            criteria={"better": Criterion(holds=holds, detail="…")},
            champion=holds,
            replaced=None,
            compared=None,
        )
        tags = {"gate": verdict.to_json(), "balanced_accuracy": f"0.9{seed}10", "split": "grouped"}
        client.create_model_version(NAME, str(tmp_path / f"model{seed}"), tags=tags)
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_registered_model_alias(NAME, "challenger", "2")
    yield client
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """A folder that was moved, with the one table of its registry that matters here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("INSERT INTO experiments VALUES ('/gone/mlruns/1'), ('s3://bucket/mlruns/2')")
        connection.commit()
    return tmp_path


def test_a_moved_registry_is_named_by_the_doctor_and_repaired(moved, fatescope):
    [check] = doctor.check_registry(moved, None)
    assert (check.state, check.remedy) == ("warning", "fatescope models repair")
    assert "1 paths in mlflow.db lead elsewhere, such as /gone/mlruns/1" in check.detail
    [path] = json.loads(fatescope("models", "repair", "--json").output)
    assert path == {
        "table": "experiments",
        "column": "artifact_location",
        "before": "/gone/mlruns/1",
        "after": f"{moved}/mlruns/1",
    }
    assert doctor.check_registry(moved, None)[0].state == "ok"
    again = fatescope("models", "repair")
    assert (again.code, again.output) == (0, f"{moved}/mlflow.db: nothing is out of place\n")


def test_a_registry_of_a_server_is_not_repaired(moved, fatescope, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert doctor.check_registry(moved, "http://127.0.0.1:5000") == []
    result = fatescope("models", "repair")
    assert (result.code, "MLFLOW_TRACKING_URI names another registry" in result.errors) == (1, True)


def champion(registry):
    return str(registry.get_model_version_by_alias(NAME, "champion").version)


def listed(fatescope, *arguments):
    return json.loads(fatescope("models", "list", *arguments, "--json").output)


@pytest.mark.slow
def test_versions_are_listed_with_what_the_gate_decided(registry, fatescope):  # noqa: ARG001
    second, first = listed(fatescope)
    assert (second["version"], second["aliases"], second["verdict"]) == ("2", ["challenger"], "refused")
    assert (second["failed"], second["balanced_accuracy"], second["split"]) == (["better"], 0.911, "grouped")
    assert (first["version"], first["aliases"], first["verdict"], first["failed"]) == (
        "1",
        ["champion"],
        "champion",
        [],
    )
    assert first["low"] is None, "a version of before has no interval"
    lines = fatescope("models", "list", "binary").output.splitlines()
    assert [line.split()[:3] for line in lines] == [[NAME, "2", "challenger"], [NAME, "1", "champion"]]
    assert listed(fatescope, "multiclass") == []


@pytest.mark.slow
def test_a_version_is_promoted_on_the_record_and_taken_back(registry, fatescope):
    result = fatescope("models", "promote", "binary", "challenger", "--reason", "new instrument", "--json")
    promotion = json.loads(result.output)
    assert (promotion["version"], promotion["replaced"], promotion["failed"]) == ("2", "1", ["better"])
    assert champion(registry) == "2"
    record = json.loads(registry.get_model_version(NAME, "2").tags["promoted"])
    assert record["why"] == "new instrument"
    assert {"who", "when", "why"} == set(record)
    assert listed(fatescope)[0]["note"].endswith(": new instrument")

    assert fatescope("models", "rollback", "binary", "--why", "calls debris a").code == 0
    assert champion(registry) == "1"
    assert listed(fatescope)[0]["note"].endswith(": calls debris a")


@pytest.mark.slow
def test_what_cannot_be_promoted(registry, fatescope, tmp_path):
    for version, reason, message in (
        ("3", "why not", f"{NAME}: no version '3' in sqlite"),
        ("nobody", "why not", f"{NAME}: no version 'nobody'"),
        ("1", "why not", "is the champion already"),
        ("2", " ", "give a reason"),
    ):
        result = fatescope("models", "promote", "binary", version, "--reason", reason)
        assert (result.code, result.output) == (1, "")
        assert message in result.errors
    # One that is damaged would serve nobody.
    (tmp_path / "model1" / "artifacts" / "bundle" / bundle.GRAPH).write_bytes(b"")
    assert fatescope("models", "promote", "binary", "2", "--reason", "why not").code == 1
    assert champion(registry) == "1"
    assert "promoted" not in registry.get_model_version(NAME, "2").tags


@pytest.mark.slow
def test_a_bundle_is_downloaded_whole(registry, fatescope, tmp_path):  # noqa: ARG001
    assert fatescope("models", "pull", "binary", "--out", "bundles/binary").code == 0
    bundle.load(tmp_path / "bundles" / "binary", threads=1).check()
    again = fatescope("models", "pull", "binary", "2", "--out", "bundles/binary")
    assert (again.code, "exists already" in again.errors) == (1, True)
    shutil.rmtree(tmp_path / "bundles")
    unknown = fatescope("models", "pull", "binary", "7", "--out", "bundles/binary")
    assert (unknown.code, "no version '7'" in unknown.errors) == (1, True)
    assert not (tmp_path / "bundles").exists()
