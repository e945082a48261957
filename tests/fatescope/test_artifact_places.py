"""A project that was moved or copied finds its own files, and leaves those of the original alone."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import mlflow
import pytest

from fatescope import artifact_places
from fatescope.errors import FatescopeError
from pipelines.registry import tracking
from tests.support.bundles import copy_bundle

NAME = "fatescope-binary"


@pytest.fixture
def enter(monkeypatch):
    """Work in a folder as a shell does that has no MLFLOW_TRACKING_URI; return what finds its registry."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def enter(folder):
        monkeypatch.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        tracking._put_right.cache_clear()
        return mlflow.MlflowClient()

    yield enter
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def project(tmp_path, enter):
    """A project with a run that has an artifact, and a version whose files are a logged model."""
    folder = tmp_path / "project"
    folder.mkdir()
    client = enter(folder)
    experiment = client.create_experiment(NAME)
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "of the run", "notes.txt")
    model = client.create_logged_model(experiment, name="model", source_run_id=run.info.run_id)
    copy_bundle(folder / "model" / "artifacts" / "bundle", "binary")
    client.log_model_artifacts(model.model_id, str(folder / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"models:/{model.model_id}", run.info.run_id, model_id=model.model_id)
    return folder


def fetched(folder, client, tmp_path):
    """Fetch the bundle of the version and the artifact of the run; return where MLflow has them."""
    version = client.get_model_version(NAME, "1")
    target = tmp_path / f"fetched-{folder.name}"
    target.mkdir()
    bundle = mlflow.artifacts.download_artifacts(f"models:/{NAME}/1/artifacts/bundle", dst_path=str(target))
    assert sorted(path.name for path in (folder / "model/artifacts/bundle").iterdir()) == sorted(
        path.name for path in type(folder)(bundle).iterdir()
    )
    assert mlflow.artifacts.load_text(f"runs:/{version.run_id}/notes.txt") == "of the run"
    return client.get_model_version_download_uri(NAME, "1")


@pytest.mark.slow
def test_a_project_where_it_was_made_has_nothing_out_of_place(project):
    database = artifact_places.own_database(project)
    assert database == project / "mlflow.db"
    assert artifact_places.find_misplaced(database) == artifact_places.repair(database) == []


@pytest.mark.slow
def test_versions_of_a_moved_project_are_fetched(project, enter, tmp_path):
    moved = project.rename(tmp_path / "moved here")
    enter(moved)
    with pytest.raises(mlflow.MlflowException):
        mlflow.artifacts.download_artifacts(f"models:/{NAME}/1/artifacts/bundle")
    misplaced = artifact_places.repair(moved / "mlflow.db")
    assert {(path.table, path.column) for path in misplaced} == {
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "storage_location"),
    }
    assert all(path.after == path.before.replace(str(project), str(moved)) for path in misplaced)
    assert fetched(moved, enter(moved), tmp_path).startswith(str(moved))
    assert artifact_places.find_misplaced(moved / "mlflow.db") == []


@pytest.mark.slow
def test_a_copy_reads_and_writes_its_own_files(project, enter, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    before = sorted(project.rglob("*"))
    client = enter(copy)
    # As every stage does, without a command.
    with tracking.resumed("binary", "a run of the copy") as tracked:
        note = tmp_path / "note.txt"
        note.write_text("of the copy")
        tracked.log_artifact(note)
    assert sorted(project.rglob("*")) == before
    assert client.get_run(tracked.run_id).info.artifact_uri.startswith(f"{copy}/mlruns/")
    assert len(list(copy.rglob("note.txt"))) == 1
    assert fetched(copy, client, tmp_path).startswith(str(copy))
    # The original is as it was.
    assert fetched(project, enter(project), tmp_path).startswith(str(project))


@pytest.mark.slow
def test_a_copy_of_the_database_alone_reads_from_the_original_and_writes_here(project, enter, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(project / "mlflow.db", tmp_path / "copy")
    misplaced = artifact_places.repair(tmp_path / "copy" / "mlflow.db")
    assert {path.table for path in misplaced} == {"experiments"}
    version = enter(tmp_path / "copy").get_model_version_download_uri(NAME, "1")
    assert version.startswith(str(project))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{here}/mlruns/1", None),
        ("{here}/../here/mlruns/1", None),
        ("{gone}/mlruns/1/ab/artifacts", "{here}/mlruns/1/ab/artifacts"),
        ("{gone}/mlruns", "{here}/mlruns"),
        ("{gone}/mlruns/old/mlruns/1", "{here}/mlruns/1"),
        ("file://{gone}/mlruns/1/a%20b", "file://{here}/mlruns/1/a%20b"),
        ("{other}/mlruns/1", None),
        ("{other}/mlruns/2", "{here}/mlruns/2"),
        ("{gone}/artifacts/1", None),
        ("{gone}/mlruns2/1", None),
        ("s3://bucket/mlruns/1", None),
        ("mlflow-artifacts:/mlruns/1", None),
        ("dbfs:/mlruns/1", None),
        ("./mlruns/1", None),
        ("models:/m-1", None),
        ("", None),
    ],
)
def test_what_is_out_of_place(tmp_path, before, after):
    # Files of 1 are in another folder, on purpose; those of 2 are in both.
    for place in ("here/mlruns/2", "other/mlruns/1", "other/mlruns/2"):
        (tmp_path / place).mkdir(parents=True)
    names = {name: tmp_path / name for name in ("here", "gone", "other")}
    expected = after.format(**names) if after else None
    assert artifact_places._place(before.format(**names), tmp_path / "here/mlruns", owns=False) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{copied}/mlruns/1", "{here}/mlruns/1"),
        ("file://{copied}/mlruns/1", "file://{here}/mlruns/1"),
        ("{other}/mlruns/1", None),
        ("{gone}/mlruns/1", "{here}/mlruns/1"),
    ],
)
def test_a_copied_project_writes_its_own_files_though_it_reads_those_of_the_original(tmp_path, before, after):
    for place in ("here", "copied/mlruns/1", "other/mlruns/1"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "copied" / "mlflow.db").touch()
    names = {name: tmp_path / name for name in ("here", "gone", "other", "copied")}
    expected = after.format(**names) if after else None
    place, here = before.format(**names), tmp_path / "here/mlruns"
    assert artifact_places._place(place, here, owns=True) == expected
    assert artifact_places._place(place, here, owns=False) == (expected if "gone" in before else None)


PATHS = {
    ("experiments", "artifact_location"): "mlruns/1",
    ("runs", "artifact_uri"): "mlruns/1/run/artifacts",
    ("logged_models", "artifact_location"): "mlruns/1/models/m-1/artifacts",
    ("model_versions", "storage_location"): "mlruns/1/models/m-2/artifacts",
    ("model_versions", "source"): "mlruns/1/run/artifacts/bundle",
}


@pytest.fixture
def moved(tmp_path):
    """A database with a path of a folder that is gone in every column that holds some."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        for table in {table for table, _ in PATHS}:
            columns = [column for owner, column in PATHS if owner == table]
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            values = [f"/gone/{PATHS[table, column]}" for column in columns]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    return tmp_path / "mlflow.db"


def stored(database):
    with closing(sqlite3.connect(database)) as connection:
        return {
            (table, column): connection.execute(f"SELECT {column} FROM {table}").fetchone()[0]
            for table, column in PATHS
        }


def test_every_column_that_holds_paths_is_put_right(moved):
    assert [(path.table, path.column) for path in artifact_places.repair(moved)] == list(PATHS)
    assert stored(moved) == {column: f"{moved.parent}/{path}" for column, path in PATHS.items()}
    assert artifact_places.find_misplaced(moved) == []


def test_a_database_of_an_earlier_mlflow_lacks_columns_and_is_put_right(moved):
    with closing(sqlite3.connect(moved)) as connection, connection:
        connection.execute("DROP TABLE logged_models")
        connection.execute("ALTER TABLE model_versions DROP COLUMN storage_location")
    repaired = [(path.table, path.column) for path in artifact_places.repair(moved)]
    assert repaired == [("experiments", "artifact_location"), ("runs", "artifact_uri"), ("model_versions", "source")]


def test_all_paths_are_put_right_or_none(moved):
    before = stored(moved)
    with closing(sqlite3.connect(moved)) as connection, connection:
        fails = "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        connection.execute(f"CREATE TRIGGER full BEFORE UPDATE OF source ON model_versions {fails}")
    with pytest.raises(FatescopeError, match=r"disk I/O error.*run `fatescope models repair`"):
        artifact_places.repair(moved)
    assert stored(moved) == before


WRITES_AND_IS_KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # pages go into the file before the end of the transaction
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE runs SET artifact_uri = '/half/mlruns/1'")
connection.execute("CREATE TABLE much AS WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 9999) "
    "SELECT i FROM n")
os._exit(9)
"""


def test_a_write_that_was_killed_half_way_is_rolled_back(moved):
    subprocess.run([sys.executable, "-c", WRITES_AND_IS_KILLED, moved], check=False)
    assert moved.with_name("mlflow.db-journal").stat().st_size > 0
    before = {(path.table, path.column): path.before for path in artifact_places.find_misplaced(moved)}
    assert before == {column: f"/gone/{path}" for column, path in PATHS.items()}


def test_other_registries_are_left_alone(tmp_path):
    assert artifact_places.own_database(tmp_path) is None
    (tmp_path / "mlflow.db").touch()
    own = tmp_path / "mlflow.db"
    for address, found in {
        None: own,
        "": own,
        "sqlite:///mlflow.db": own,
        f"sqlite:///{own}": own,
        f"sqlite:///{tmp_path}/other.db": None,
        "sqlite:////elsewhere/mlflow.db": None,
        "http://127.0.0.1:5000": None,
        "postgresql://user:password@host/mlflow.db": None,
        "file:///tmp/mlruns": None,
    }.items():
        assert artifact_places.own_database(tmp_path, address) == found, address


def test_a_database_that_is_none_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(FatescopeError, match="cannot be read"):
        artifact_places.find_misplaced(tmp_path / "mlflow.db")
    with pytest.raises(FatescopeError, match="run `fatescope models repair`"):
        artifact_places.repair(tmp_path / "mlflow.db")
