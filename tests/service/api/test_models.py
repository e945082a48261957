"""The models in service, and the static parts of the service."""

import asyncio
import io
import re
import shutil
import zipfile
from urllib.parse import urljoin

import pandas as pd
import pytest

from fatescope.inference import bundle
from service.inference import model_pool
from service.inference.errors import RequestError
from service.inference.loaded_models import LoadedModels
from service.inference.summary import FEATURES
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected


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
    assert set(FEATURES) <= set(reference.columns)


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
