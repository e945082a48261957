"""The registry: versions are listed, promoted, taken back and downloaded."""

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from fatescope.cli import doctor
from fatescope.inference import bundle
from pipelines.registry.records import Criterion, Verdict
from tests.support.bundles import copy_bundle
from tests.support.project import ROOT
from tests.support.teaching import write_taught
from tests.support.tracking import new_store

NAME = "fatescope-binary"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of two versions of the task binary, the first its champion; the gate had refused the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    mlflow.set_tracking_uri(None)
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    for seed, holds in enumerate((True, False)):
        # Where MLflow keeps what `register` logs: a model with the bundle among its artifacts.
        copy_bundle(tmp_path / f"model{seed}" / "artifacts" / "bundle", "binary", seed)
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
    assert "1 path in mlflow.db leads elsewhere, such as /gone/mlruns/1" in check.detail
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


def test_the_protocol_is_printed_written_and_read_by_scripts(tmp_path, monkeypatch, fatescope):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    printed = fatescope("models", "protocol", "binary")
    assert printed.code == 0
    assert printed.output.startswith("# Change-control protocol of fatescope-binary\n")
    assert "\n## Who signs\n" in printed.output
    assert fatescope("models", "protocol", "binary", "--out", "protocol.md").code == 0
    assert (tmp_path / "protocol.md").read_text() == printed.output
    tests = json.loads(fatescope("models", "protocol", "binary", "--json").output)["tests"]
    assert next(test for test in tests if test["criterion"] == "audit")["signable"] is True
    unknown = fatescope("models", "protocol", "other")
    assert (unknown.code, "task 'other' is not in dataset.tasks" in unknown.errors) == (1, True)


@pytest.mark.slow
@pytest.mark.usefixtures("registry")
def test_the_protocol_has_what_each_test_said_of_a_version(tmp_path, fatescope):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    page = fatescope("models", "protocol", "binary", "challenger").output
    assert page.startswith("# Change-control protocol of fatescope-binary, version 2\n")
    assert "| no | **does not hold**: … |" in page
    missing = fatescope("models", "protocol", "binary", "7")
    assert (missing.code, "no version '7'" in missing.errors) == (1, True)


def champion(registry):
    return str(registry.get_model_version_by_alias(NAME, "champion").version)


def listed(fatescope, *arguments):
    return json.loads(fatescope("models", "list", *arguments, "--json").output)


@pytest.mark.slow
@pytest.mark.usefixtures("registry")
def test_versions_are_listed_with_what_the_gate_decided(fatescope):
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
def test_a_version_is_promoted_on_the_record_and_taken_back(registry, fatescope, monkeypatch, tmp_path):
    monkeypatch.setenv("FATESCOPE_AUDIT_LOG", str(tmp_path / "log"))
    (tmp_path / "records" / "binary").mkdir(parents=True)
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

    # Who put which version there, and when, from the tags alone where no log was kept, else from the log.
    def past(*arguments):
        return json.loads(fatescope("models", "history", "binary", *arguments, "--json").output)

    expected = [("1", "promotion", "gate"), ("2", "promotion", "new instrument"), ("1", "rollback", "calls debris a")]
    for source in ("audit log", "tags"):
        reigns = past()
        found = [(reign["version"], reign["what"], reign["evidence"].get("why") or reign["who"]) for reign in reigns]
        assert found == expected
        assert reigns[1]["source"].startswith(source)
        assert [reign["until"] for reign in reigns] == [reigns[1]["since"], reigns[2]["since"], None]
        monkeypatch.setenv("FATESCOPE_AUDIT_LOG", str(tmp_path / "none"))
    assert past("--at", "2026-01-01") == {"champion": None, "answered": {}}
    write_table(
        pa.table(
            {
                "time": [datetime(2099, 1, 1, 12, 3, tzinfo=UTC), datetime(2099, 1, 1, 13, tzinfo=UTC)],
                "version": ["1", "2"],
            }
        ),
        "records/binary/20990101T130000-1-1-0-a.parquet",
    )
    told = past("--at", "2099-01-01T12:00:00+00:00")
    assert (told["champion"]["version"], told["answered"]) == ("1", {})
    Path("records/binary/20990101T130000-1-1-0-a.parquet").rename("records/binary/20990101T120310-1-1-0-a.parquet")
    assert past("--at", "2099-01-01T12:00:00+00:00")["answered"] == {"1": 1}
    text = fatescope("models", "history", "binary").output
    assert "better: holds" in text
    assert "reason: calls debris a" in text


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
def test_what_is_not_in_the_registry_is_told_with_what_is(registry, fatescope):
    for command in ("sign", "pull", "promote"):
        unknown = fatescope("models", command, "binary", "7", *(("--reason", "x") if command == "promote" else ()))
        assert unknown.code == 1
        assert f"{NAME}: no version '7' in sqlite" in unknown.errors
        assert "`fatescope models list binary` prints those that there are" in unknown.errors
    misspelt = fatescope("models", "history", "binar")
    assert misspelt.code == 1
    assert "fatescope-binar: no version in sqlite" in misspelt.errors
    assert "there are versions of binary, and `fatescope repro` registers one" in misspelt.errors
    assert "no champion yet" not in fatescope("models", "history", "binar", "--at", "2026-01-01").output
    assert "fatescope-binar: no version in sqlite" in fatescope("models", "list", "binar").output
    # As MLflow's own pages move it; nothing else keeps a record.
    for version in ("1", "2"):
        registry.delete_model_version_tag(NAME, version, "gate")
    assert fatescope("models", "history", "binary").output == (
        "version 1 of binary is the champion; since when and by whom is not on record\n"
    )
    registry.delete_registered_model_alias(NAME, "champion")
    assert fatescope("models", "history", "binary").output == "binary never had a champion\n"


@pytest.mark.slow
@pytest.mark.usefixtures("registry")
def test_a_bundle_is_downloaded_whole(fatescope, tmp_path):
    pulled = fatescope("models", "pull", "binary", "--out", "bundles/binary")
    # No bar of MLflow.
    assert (pulled.code, pulled.errors) == (0, "")
    bundle.load(tmp_path / "bundles" / "binary", threads=1).check()
    again = fatescope("models", "pull", "binary", "2", "--out", "bundles/binary")
    assert (again.code, "exists already" in again.errors) == (1, True)
    shutil.rmtree(tmp_path / "bundles")
    unknown = fatescope("models", "pull", "binary", "7", "--out", "bundles/binary")
    assert (unknown.code, "no version '7'" in unknown.errors) == (1, True)
    assert not (tmp_path / "bundles").exists()


@pytest.fixture
def required(monkeypatch, tmp_path):
    """What an installation has without any setting, with a key that it makes at first use."""
    monkeypatch.delenv("FATESCOPE_SIGNATURES")
    monkeypatch.setenv("FATESCOPE_SIGNING_KEY", str(tmp_path / "secret" / "key.pem"))


@pytest.mark.usefixtures("required")
def test_a_version_is_signed_and_refused_once_it_is_changed(registry, fatescope, tmp_path):
    stored = tmp_path / "model0" / "artifacts" / "bundle"
    # Nobody is trusted before a key is there.
    assert fatescope("models", "pull", "binary", "--out", "before").code == 0
    signed = json.loads(fatescope("models", "sign", "binary", "champion", "--json").output)
    assert (signed["version"], signed["signed_by"][:4]) == ("1", "key ")
    assert registry.get_model_version(NAME, "1").tags["signed_by"] == signed["signed_by"]
    assert (stored / "model.sig").exists()
    assert fatescope("models", "pull", "binary", "--out", "pulled").code == 0
    assert (tmp_path / "pulled" / "model.sig").read_bytes() == (stored / "model.sig").read_bytes()

    # Now that there is a key, what has no signature is refused, also where it would only be compared with.
    unsigned = fatescope("models", "pull", "binary", "2", "--out", "unsigned")
    assert (unsigned.code, "fatescope models sign binary 2" in unsigned.errors) == (1, True)

    weights = bytearray((stored / bundle.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (stored / bundle.WEIGHTS).write_bytes(weights)
    (stored / "model.sig").rename(tmp_path / "kept.sig")
    bundle.finalize(stored, bundle.read_spec(stored))
    (tmp_path / "kept.sig").rename(stored / "model.sig")
    bundle.open_spec(stored)
    for command in (("pull", "binary", "--out", "changed"), ("sign", "binary", "1")):
        changed = fatescope("models", *command)
        assert changed.code == 1
        assert "weights.safetensors was changed" in changed.errors
    assert not (tmp_path / "changed").exists()

    [key, signatures, champion] = doctor.check_signatures(tmp_path, "sqlite:///mlflow.db")
    assert (key.name, key.state, signatures.state) == ("signing key", "ok", "ok")
    assert (champion.name, champion.state) == ("champion of binary", "warning")
    assert "weights.safetensors was changed" in champion.detail
    assert "rollback" in champion.remedy


@pytest.mark.usefixtures("registry", "required")
def test_the_doctor_says_who_is_trusted(fatescope, tmp_path):
    [key, signatures] = doctor.check_signatures(tmp_path, "sqlite:///mlflow.db")
    assert "made when a version is registered" in key.detail
    assert (signatures.state, "nobody is trusted" in signatures.detail) == ("warning", True)
    assert fatescope("models", "sign", "binary", "1").code == 0
    (tmp_path / "secret" / "key.pem").chmod(0o644)
    [key, signatures, champion] = doctor.check_signatures(tmp_path, "sqlite:///mlflow.db")
    assert (key.state, key.remedy) == ("warning", f"chmod 600 {tmp_path / 'secret' / 'key.pem'}")
    assert "trusted: key " in signatures.detail
    assert (champion.state, "signed by key " in champion.detail) == ("ok", True)


def test_a_taught_bundle_is_registered_unsigned_and_without_an_alias(registry, fatescope, tmp_path):
    write_taught(tmp_path / "taught")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "taught")
    assert "version 1, unsigned and without an alias" in fatescope("models", "add", packed).output
    version = registry.get_model_version("fatescope-nuclei", "1")
    assert (list(version.aliases), "signed_by" in version.tags, "gate" in version.tags) == ([], False, False)
    assert json.loads(version.tags["taught"])["labels"] == {"dark": 30, "plain": 30}
    assert "registered already, as version 1" in fatescope("models", "add", packed).errors
    assert "the gate has not decided on it" in fatescope("models", "promote", "nuclei", "1").errors


@pytest.mark.usefixtures("registry")
def test_only_what_was_taught_is_added_by_hand(fatescope, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"no zip")
    assert "nor a zip" in fatescope("models", "add", "no.zip").errors
    with zipfile.ZipFile("cells.zip", "w") as archive:
        archive.writestr("cell.tif", b"x")
    assert "give the zip that `Download bundle` on the page has saved" in fatescope("models", "add", "cells.zip").errors
    assert "not taught but trained" in fatescope("models", "add", "model0/artifacts/bundle").errors


@pytest.mark.usefixtures("registry")
def test_a_damaged_bundle_and_a_task_that_is_no_name_are_refused(fatescope, tmp_path):
    write_taught(tmp_path / "taught")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "taught"))
    content = bytearray(packed.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 2000] = bytes(2000)
    packed.write_bytes(content)
    assert "nor a zip" in fatescope("models", "add", "packed.zip").errors
    spec = tmp_path / "taught" / bundle.SPEC
    spec.write_text(spec.read_text().replace('"task": "nuclei"', '"task": "a/../b"'))
    assert "is no name of a task" in fatescope("models", "add", "taught").errors
