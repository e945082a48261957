"""The models in service, and the static parts of the service."""

import io
import zipfile

import pandas as pd

from service.inference.summary import FEATURES
from tests.support.bundles import CLASSES


def test_models_are_listed_with_the_default_task_first(client):
    multiclass, binary = client.get("/models").json()
    assert multiclass["classes"] == CLASSES
    assert (multiclass["engine"], binary["task"]) == ("onnxruntime", "binary")


def test_a_bundle_without_a_card_says_so(client):
    missing = client.get("/card/binary")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_card")
    assert client.get("/card/trinary").json()["error"]["code"] == "unknown_task"


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
    assert "swagger-ui" in client.get("/docs").text


def test_the_page_loads_nothing_from_other_hosts(client):
    response = client.get("/")
    assert "default-src 'self'" in response.headers["content-security-policy"]
    for path in ("/", "/page/app.js"):
        got = client.get(path)
        assert got.status_code == 200
        # Modules of two versions of the service are never put together.
        assert got.headers["cache-control"] == "no-cache"
