"""The models in service, and the static parts of the service."""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from urllib.parse import urljoin

import pandas as pd
import pytest

from fatescope.inference import bundle
from service.inference import engines, metrics, model_pool
from service.inference.errors import RequestError
from service.inference.loaded_models import LoadedModels
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.project import ROOT


def test_models_are_listed_with_the_default_task_first(client):
    multiclass, binary = client.get("/models").json()
    assert multiclass["classes"] == CLASSES
    assert (multiclass["engine"], binary["task"]) == ("onnxruntime", "binary")


def test_a_bundle_without_a_card_says_so(client):
    missing = client.get("/card/binary")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_card")
    assert client.get("/card/trinary").json()["error"]["code"] == "unknown_task"


def test_what_a_request_may_have_is_said_in_advance(client, bundles, tmp_path):
    assert {model["max_cells"] for model in client.get("/models").json()} == {20_000}
    with application(tmp_path, bundles, max_cells=7) as app, connected(app) as other:
        assert {model["max_cells"] for model in other.get("/models").json()} == {7}


def test_a_card_is_shown_by_itself_and_runs_nothing(bundles, tmp_path):
    shutil.copytree(bundles, tmp_path / "bundles")
    (tmp_path / "bundles" / "binary" / "card.html").write_text("<style>p {color: red}</style><p>a card")
    (tmp_path / "bundles" / "binary" / "card.md").write_text("# a card")
    with application(tmp_path, tmp_path / "bundles") as app, connected(app) as client:
        link = next(model["card"] for model in client.get("/models").json() if model["task"] == "binary")
        assert link == "card/binary"
        for accept, start in (("text/html", "<style>"), ("text/markdown", "# a card")):
            response = client.get(f"/{link}", headers={"accept": accept})
            assert response.text.startswith(start)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script-src" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"


def test_a_version_that_the_runner_can_no_longer_load_is_not_listed_until_it_can(bundles, tmp_path, monkeypatch):
    shutil.copytree(bundles, tmp_path / "bundles")
    graph = tmp_path / "bundles" / "multiclass" / bundle.GRAPH
    whole = graph.read_bytes()
    with application(tmp_path, tmp_path / "bundles") as app, connected(app) as client:
        models = app.state.service.models
        graph.write_bytes(whole[:1000])
        asyncio.run(models.check_served())
        assert models.is_ready, "what a runner has in memory it can still run"
        # The runner is started again.
        models._runner._models = LoadedModels(tmp_path / "bundles", "onnxruntime", 1)
        asyncio.run(models.check_served())
        assert not models.is_ready
        assert [model["task"] for model in client.get("/models").json()] == ["binary"]
        # Nobody asked for another task in its place.
        for task in (None, "multiclass"):
            response = client.post("/classify", params={"task": task} if task else {}, content=tiff(typical(0)))
            assert (response.status_code, response.json()["error"]["code"]) == (503, "runner")
            assert "changed or damaged" in response.json()["error"]["message"]
        assert client.post("/classify", params={"task": "binary"}, content=tiff(typical(0))).status_code == 200
        graph.write_bytes(whole)
        asyncio.run(models.check_served())
        assert not models.is_ready, "it is tried again after a while, not each time"
        monkeypatch.setattr(model_pool, "RETRY_S", 0.0)
        models._retry_at.clear()
        asyncio.run(models.check_served())
        assert models.is_ready
        assert [model["task"] for model in client.get("/models").json()] == ["multiclass", "binary"]


def test_a_runner_may_be_late_with_a_version_but_not_for_long(tmp_path, monkeypatch):
    """Each of several runners follows the registry by itself."""
    folder = tmp_path / "followed"
    copy_bundle(folder / "binary" / "1", "binary")
    (folder / "champions.json").write_text('{"binary": "1"}')
    late = tmp_path / "late"
    copy_bundle(late / "binary" / "2", "binary", seed=2)
    (late / "champions.json").write_text('{"binary": "2"}')
    with application(tmp_path, folder) as app:
        models = app.state.service.models
        models._runner._models = LoadedModels(late, "onnxruntime", 1)
        asyncio.run(models.check_served())
        assert models.is_ready
        monkeypatch.setattr(model_pool, "ABSENT_S", 0.0)
        asyncio.run(models.check_served())
        assert not models.is_ready
        with pytest.raises(RequestError, match="version 1 of fatescope-binary is not here"):
            models.get("binary")


def test_example_cells_can_be_classified_and_the_reference_be_read(client):
    archive = client.get("/sample/binary").content
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert names[0] == "example/cell_1.tif"
    results = client.post("/classify_batch", params={"task": "binary"}, content=archive).json()
    assert results["sample"]["cells"] == len(names)
    assert len(client.get("/examples/binary").json()["pictures"]) == len(names)
    reference = pd.read_parquet(io.BytesIO(client.get("/reference/binary").content))
    [figures] = [model["figures"] for model in client.get("/models").json() if model["task"] == "binary"]
    assert set(figures) <= set(reference.columns)


def test_the_openapi_document_and_its_page(client):
    paths = set(client.get("/openapi.json").json()["paths"])
    assert {"/classify", "/classify_batch", "/models", "/card/{task}"} <= paths
    page = client.get("/docs")
    assert "swagger-ui" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert scripts, "none of them is in the page, where the policy would not let it run"
    assert all("src=" in script for script in scripts)


@pytest.mark.parametrize("prefix", ["", "/cells"])
def test_the_document_says_where_the_service_is_whatever_comes_before_its_paths(app, prefix):
    """A proxy may have removed the prefix or left it; what is relative to the document is right in both cases."""
    with connected(app, root_path=prefix) as client:
        for headers in ({}, {"x-forwarded-prefix": "/other"}):
            document = client.get(f"{prefix}/openapi.json", headers=headers).json()
            assert document["servers"] == [{"url": "."}]
        assert urljoin(f"http://h{prefix}/openapi.json", ".") == f"http://h{prefix}/"


def test_the_page_loads_nothing_from_other_hosts(client):
    response = client.get("/")
    assert "default-src 'self'" in response.headers["content-security-policy"]
    for path in ("/", "/page/app.js"):
        got = client.get(path)
        assert got.status_code == 200
        # Modules of two versions of the service are never put together.
        assert got.headers["cache-control"] == "no-cache"


@pytest.fixture
def followed(tmp_path):
    """An application that serves version 1 of two tasks from a registry, its client, and how to set the champions."""
    folder = tmp_path / "followed"
    for task in ("binary", "multiclass"):
        copy_bundle(folder / task / "1", task)

    def champions(app=None, **versions):
        (folder / "champions.json").write_text(json.dumps(versions))
        if app:
            asyncio.run(app.state.service.models.check())

    champions(binary="1", multiclass="1")
    with application(tmp_path, folder) as app, connected(app) as client:
        yield app, client, champions


def served_tasks(client):
    return [model["task"] for model in client.get("/models").json()]


def post(client, task=None):
    return client.post("/classify", params={"task": task} if task else {}, content=tiff(typical(0)))


def gauge(task):
    return metrics.TASK_SERVED.labels(task)._value.get()


def test_a_task_without_a_champion_is_served_no_longer_and_no_other_takes_its_place(followed, caplog):
    app, client, champions = followed
    assert post(client).json()["task"] == "multiclass"
    champions(app, binary="1")
    assert served_tasks(client) == ["binary"]
    for task in (None, "multiclass"):
        response = post(client, task)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_task")
        message = "fatescope-multiclass version 1 is no longer served, because the registry has no champion"
        assert message in response.json()["error"]["message"]
    assert client.get("/card/multiclass").json()["error"]["code"] == "unknown_task"
    assert post(client, "binary").status_code == 200
    assert app.state.service.models.is_ready, "another task is served"
    assert (gauge("multiclass"), gauge("binary")) == (0, 1)
    champions(app, binary="1")
    assert caplog.text.count("is no longer served") == 1

    champions(app)
    assert served_tasks(client) == []
    assert post(client, "binary").status_code == 404
    reason = app.state.service.models.unready_reason
    assert reason.startswith("no model is in service: ")
    assert "fatescope-binary version 1" in reason

    champions(app, multiclass="1")
    assert app.state.service.models.unready_reason is None
    assert post(client).json()["task"] == "multiclass"
    assert (gauge("multiclass"), gauge("binary")) == (1, 0)


def test_a_new_version_ends_the_withdrawal_of_a_task(followed, tmp_path):
    app, client, champions = followed
    champions(app, multiclass="1")
    assert post(client, "binary").status_code == 404
    copy_bundle(tmp_path / "followed" / "binary" / "2", "binary", seed=2)
    champions(app, multiclass="1", binary="2")
    assert post(client, "binary").json()["model"]["version"] == "2"
    assert served_tasks(client) == ["multiclass", "binary"]


def test_a_gateway_that_starts_when_no_task_has_a_champion_waits_for_one(tmp_path):
    folder = tmp_path / "followed"
    copy_bundle(folder / "binary" / "1", "binary")
    (folder / "champions.json").write_text("{}")
    with application(tmp_path, folder) as app, connected(app) as client:
        assert app.state.service.models.unready_reason == "no model is in service: the registry has no champion"
        assert post(client).json()["error"]["code"] == "unknown_task"
        (folder / "champions.json").write_text('{"binary": "1"}')
        asyncio.run(app.state.service.models.check())
        assert post(client).status_code == 200


def test_a_folder_of_bundles_that_is_away_for_a_while_changes_nothing(bundles, tmp_path):
    shutil.copytree(bundles, tmp_path / "bundles")
    with application(tmp_path, tmp_path / "bundles") as app, connected(app) as client:
        (tmp_path / "bundles" / "binary").rename(tmp_path / "away")
        asyncio.run(app.state.service.models.check())
        (tmp_path / "bundles").rename(tmp_path / "all")
        asyncio.run(app.state.service.models.check())
        assert served_tasks(client) == ["multiclass", "binary"]
        assert {post(client, task).status_code for task in ("binary", "multiclass")} == {200}


def test_the_service_is_unready_while_an_engine_fails_on_everything(followed, monkeypatch):
    app, client, _ = followed
    models = app.state.service.models

    class Broken:
        def predict(self, _, **_options):
            raise RuntimeError("CUDA error")

    loaded = models._runner._models._loaded["binary", "1"]
    loaded.bundle = loaded.bundle.with_engine(Broken())
    with monkeypatch.context() as patch:
        patch.setitem(engines.ENGINES, "onnxruntime", lambda *_: Broken())
        for _ in range(3):
            response = post(client, "binary")
            assert (response.status_code, response.json()["error"]["code"]) == (503, "runner")
        asyncio.run(models.check())
    assert "fatescope-binary version 1 cannot be loaded: onnxruntime fails on known good" in models.unready_reason
    assert (gauge("binary"), gauge("multiclass")) == (0, 1)
    assert served_tasks(client) == ["multiclass"]
    assert post(client, "multiclass").status_code == 200
    models._retry_at.clear()
    asyncio.run(models.check())
    assert models.is_ready
    assert post(client, "binary").status_code == 200


def test_the_metrics_of_the_follower_are_among_those_of_the_processes(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from service.background import Worker; from service.inference import metrics\n"
        "from service.registry import follower\n"
        "Worker('recording', 20.0, metrics.publish_worker).fail(OSError('disk full'))\n"
        "print(metrics.collect(follower.status(Path(sys.argv[1]))).decode())\n"
    )
    known = {"interval_s": 30.0, "last_success": 5.0, "failures": 2}
    (tmp_path / "follower.json").write_text(json.dumps(known))
    (tmp_path / "metrics").mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert 'fatescope_background_last_success_timestamp_seconds{worker="registry"} 5.0' in lines
    assert 'fatescope_background_restarts_total{worker="registry"} 2.0' in lines
    assert 'fatescope_background_restarts_total{worker="recording"} 1.0' in lines
    described = [line for line in lines if line.startswith("# TYPE")]
    assert len(set(described)) == len(described), "each metric once, or Prometheus refuses them"
