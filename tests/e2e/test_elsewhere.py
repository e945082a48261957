"""The embedded defaults, exchanged for PostgreSQL, S3 and a cluster by the environment alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import boto3
import mlflow
import numpy as np
import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from pipelines.stages import ingest, split
from tests.support.bundles import copy_bundle
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.project import ROOT
from tests.support.ray_cluster import QUIET, cluster
from tests.support.servers import ended, free_port, ready

pytestmark = pytest.mark.slow
BUCKET = "fatescope"
WORKERS, TRIALS, EPOCHS = 4, 10, 13
SPACE = {
    "tune.trials": TRIALS,
    "tune.workers": WORKERS,
    "tune.epochs": EPOCHS,
    "tune.min_epochs": EPOCHS,
    "tune.space": {"learning_rate": {"low": 3e-3, "high": 2e-2, "log": True}, "batch_size": [4, 5]},
    "train.backbone": "compact",
    "train.batch_size": 4,
    "train.patience": 99,
    "train.threads": 1,
    "train.minutes": 60,  # no result depends on how fast this machine is
    "tune.minutes": 60,
    "dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
}


@contextmanager
def postgresql():
    """Start a PostgreSQL server of its own; yield the address of its databases, which end in their names."""
    known = [shutil.which("initdb"), *Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = next(filter(None, known), None)
    if not found:
        pytest.skip("no PostgreSQL here (Debian: apt install postgresql)")
    programs, port = Path(found).parent, free_port()
    # It will not run as root, and below pytest's folders nobody else may look.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fatescope-postgresql-"))
    if user:
        shutil.chown(folder, user)
    data, log = folder / "data", (folder / "log").open("wb")
    make = [programs / "initdb", "-D", data, "-U", "fatescope", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, user=user, stdout=log, stderr=log, cwd="/")
    listen = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
    server = subprocess.Popen([programs / "postgres", "-D", data, *listen], user=user, stdout=log, stderr=log, cwd="/")
    try:
        with connected(port) as session:
            for name in ("studies", "mlflow"):
                session.execute(f"CREATE DATABASE {name}")
        yield f"postgresql+psycopg://fatescope@127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
        log.close()
        shutil.rmtree(folder)


def connected(port, timeout_s=90):
    end = time.monotonic() + timeout_s
    while True:
        try:
            return psycopg.connect(f"host=127.0.0.1 port={port} user=fatescope dbname=postgres", autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL did not start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """PostgreSQL, an S3 API, and a tracking server on both; yields the environment that names them."""
    folder, python = tmp_path_factory.mktemp("servers"), sys.executable
    s3, tracking = free_port(), free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    at_s3 = keys | {"MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3}", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}"}
    with postgresql() as databases:
        moto = [Path(python).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(s3)]
        with ended([str(each) for each in moto], folder, {}):
            ready(f"http://127.0.0.1:{s3}/moto-api/")
            store = boto3.client("s3", endpoint_url=at_s3["AWS_ENDPOINT_URL"], **credentials(keys))
            store.create_bucket(Bucket=BUCKET)
            server = [
                python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(tracking), "--workers", "1",
                "--backend-store-uri", f"{databases}mlflow", "--artifacts-destination", f"s3://{BUCKET}/mlflow",
            ]  # fmt: skip
            with ended(server, folder, at_s3 | {"MLFLOW_DISABLE_TELEMETRY": "true"}):
                ready(f"http://127.0.0.1:{tracking}/health")
                yield (
                    {
                        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{tracking}",
                        "FATESCOPE_STUDIES": f"{databases}studies",
                        "FATESCOPE_HEARTBEAT_S": "1",
                    },
                    store,
                    at_s3,
                )


def credentials(keys):
    return {
        "aws_access_key_id": keys["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": keys["AWS_SECRET_ACCESS_KEY"],
        "region_name": keys["AWS_DEFAULT_REGION"],
    }


@pytest.fixture
def environment(elsewhere, monkeypatch):
    """What names the servers, set here too."""
    for name, value in elsewhere[0].items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(None)
    yield os.environ | QUIET | {"OMP_NUM_THREADS": "1"}
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


def prepared(folder, seed, **changes):
    """Return the command that searches on cells of its own."""
    folder.mkdir()
    params = write_params(folder, SPACE | {name.replace("__", "."): value for name, value in changes.items()})
    ingest.main(params, write_export(folder / "data", np.random.default_rng(seed)), folder / "cells")
    split.main(params, folder / "cells", folder / "splits.parquet")
    options = {
        "--params": params,
        "--task": "binary",
        "--cells": folder / "cells",
        "--splits": folder / "splits.parquet",
    }
    options |= {"--journal": folder / "study.journal", "--out": folder / "best.json", "--plots": folder / "search"}
    return [sys.executable, "-m", "pipelines.stages.tune", *(str(part) for pair in options.items() for part in pair)]


def trials(study=None):
    # Without a pool, whose connections would outlive this.
    address, unpooled = os.environ["FATESCOPE_STUDIES"], {"poolclass": NullPool}
    store = optuna.storages.RDBStorage(address, engine_kwargs=unpooled)
    names = [each.study_name for each in optuna.get_all_study_summaries(store)]
    chosen = study or (names[-1] if names else None)
    return optuna.load_study(study_name=chosen, storage=store).get_trials(deepcopy=False) if chosen else []


@pytest.mark.long
def test_a_worker_that_is_killed_costs_the_search_nothing(environment, tmp_path):
    command = prepared(tmp_path / "four", 0)
    log = (tmp_path / "log").open("w")
    with subprocess.Popen(command, cwd=tmp_path / "four", env=environment, stdout=log, stderr=log) as search:
        end, running = time.monotonic() + 360, []
        # In the middle: some are done, and this one has told of its first epochs.
        while not running:
            assert search.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            known = trials()
            if sum(each.state == TrialState.COMPLETE for each in known) >= 2:
                running = [
                    each
                    for each in known
                    if each.state == TrialState.RUNNING and 1 <= len(each.intermediate_values) < EPOCHS // 2
                ]
            time.sleep(0.02)
        victim = running[0]
        os.kill(int(victim.user_attrs["worker"].partition(":")[2]), signal.SIGKILL)
        assert search.wait(540) == 0, (tmp_path / "log").read_text()
    log.close()
    best = json.loads((tmp_path / "four" / "best.json").read_text())
    known = trials(best["study"])
    assert [each.number for each in known] == list(range(len(known))), "none is there twice"
    assert known[victim.number].state == TrialState.FAIL
    [again] = [each for each in known if each.system_attrs.get("retry_history") == [victim.number]]
    assert (again.state, again.params) == (TrialState.COMPLETE, victim.params)
    assert known[again.number].user_attrs["worker"] != victim.user_attrs["worker"]
    complete = [each for each in known if each.state == TrialState.COMPLETE]
    assert len(complete) == len(known) - 1
    assert TRIALS <= len(complete) < TRIALS + WORKERS, "processes may together begin a few too many"
    assert best["failures"][0]["reason"] == "killed with its process; tried again"
    assert (tmp_path / "four" / "study.journal").read_text() == "", "the study is in the database"

    # Each trial is a run, and the killed one is not told as running.
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("fatescope-binary").experiment_id
    [parent] = client.search_runs([experiment], f"run_name = 'tune {best['study']}'")
    runs = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    told = {each.info.run_name: each.info.status for each in runs}
    assert len(runs) == len(told) == len(known)
    assert told.pop(f"trial {victim.number}") == "KILLED"
    assert set(told.values()) == {"FINISHED"}
    assert "history.png" in {each.path for each in client.list_artifacts(parent.info.run_id)}

    # As one worker finds it, with the journal of the embedded default.
    write_params(tmp_path / "four", SPACE | {"tune.workers": 1, "tune.trials": TRIALS})
    alone = {name: value for name, value in environment.items() if name != "FATESCOPE_STUDIES"}
    subprocess.run(command, cwd=tmp_path / "four", env=alone, check=True, capture_output=True)
    one = json.loads((tmp_path / "four" / "best.json").read_text())
    assert one["study"] == best["study"]
    assert one["best"]["value"] == pytest.approx(best["best"]["value"], abs=0.15), "a cell or two of sixteen"


@pytest.mark.long
def test_workers_are_placed_on_a_cluster(environment, tmp_path):
    command = prepared(tmp_path / "ray", 1, tune__workers=2, tune__trials=4)
    with cluster(tmp_path, 2) as (address, _):
        told = environment | {"FATESCOPE_RAY": address}
        done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    best = json.loads((tmp_path / "ray" / "best.json").read_text())
    known = trials(best["study"])
    assert len({each.user_attrs["worker"] for each in known}) == 2
    assert 4 <= sum(each.state == TrialState.COMPLETE for each in known) <= 5


@pytest.mark.long
def test_a_cluster_needs_what_all_its_nodes_reach(environment, tmp_path):
    command = prepared(tmp_path / "ray", 1)
    told = {k: v for k, v in environment.items() if k != "FATESCOPE_STUDIES"} | {"FATESCOPE_RAY": "auto"}
    done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FATESCOPE_RAY is set, but not FATESCOPE_STUDIES" in done.stderr


def test_a_database_that_is_away_is_told_without_its_password(environment, tmp_path):
    command = prepared(tmp_path / "away", 1)
    told = environment | {"FATESCOPE_STUDIES": f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/studies"}
    done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FATESCOPE_STUDIES: the database of studies cannot be opened" in done.stderr
    assert "secret" not in done.stderr


def test_a_champion_comes_from_s3_as_it_was(environment, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_bundle(tmp_path / "bundle", "binary")
    # As `pipelines.stages.register` leaves it.
    mlflow.set_experiment("elsewhere")
    with mlflow.start_run():
        made = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ROOT / "pipelines" / "registry" / "pyfunc.py"),
            artifacts={"bundle": str(tmp_path / "bundle")},
            code_paths=[str(ROOT / "fatescope")],
            pip_requirements=[],
            registered_model_name="fatescope-binary",
        )
    mlflow.MlflowClient().set_registered_model_alias("fatescope-binary", "champion", made.registered_model_version)
    follow = [sys.executable, "-m", "service.registry.registry_sync", str(tmp_path / "followed"), "--once"]
    done = subprocess.run(follow, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[0]) == {"serving": {"binary": str(made.registered_model_version)}}
    fetched = tmp_path / "followed" / "binary" / str(made.registered_model_version)
    for path in (tmp_path / "bundle").iterdir():
        assert (fetched / path.name).read_bytes() == path.read_bytes(), path.name
    kept = elsewhere[1].list_objects_v2(Bucket=BUCKET, Prefix="mlflow/")["Contents"]
    assert any(each["Key"].endswith("model.onnx") for each in kept)
    assert not (tmp_path / "mlruns").exists()


def test_a_version_of_the_data_goes_through_s3(elsewhere, tmp_path):
    def run(*command, at):
        told = os.environ | elsewhere[2] | {"DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, cwd=at, env=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    one, other, dvc = tmp_path / "one", tmp_path / "other", str(Path(sys.executable).with_name("dvc"))
    one.mkdir()
    write_export(one / "data", np.random.default_rng(0))
    run("git", "init", "-q", at=one)
    run(dvc, "init", "-q", at=one)
    run(dvc, "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/dvc", at=one)
    run(dvc, "add", "-q", "data", at=one)
    run(dvc, "push", "-q", at=one)
    shutil.copytree(one, other, ignore=shutil.ignore_patterns("data", "cache", "tmp"))
    run(dvc, "pull", "-q", at=other)
    files = sorted(path.relative_to(one) for path in (one / "data").iterdir())
    assert len(files) == 96
    assert all((other / path).read_bytes() == (one / path).read_bytes() for path in files)
    assert elsewhere[1].list_objects_v2(Bucket=BUCKET, Prefix="dvc/")["KeyCount"] >= 96
