"""The files with which a browser runs a model itself."""

import hashlib
import json

import pytest

from tests.support.in_process import application, connected

FILES = ("model.onnx", "outliers.safetensors", "test.safetensors")


def test_the_files_are_those_that_the_spec_names(client):
    answer = client.get("/bundle/binary/spec.json")
    version = next(model["model"]["version"] for model in client.get("/models").json() if model["task"] == "binary")
    assert answer.headers["x-model-version"] == version
    assert answer.headers["cache-control"] == "no-cache"
    hashes = json.loads(answer.content)["hashes"]
    for name in FILES:
        file = client.get(f"/bundle/binary/{name}", params={"sha256": hashes[name]})
        assert hashlib.sha256(file.content).hexdigest() == hashes[name]
        assert "immutable" in file.headers["cache-control"]
        assert client.get(f"/bundle/binary/{name}").headers["cache-control"] == "no-cache"


def test_a_file_of_another_version_is_not_taken_for_this_one(client):
    answer = client.get("/bundle/binary/model.onnx", params={"sha256": "0" * 64})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "changed")


@pytest.mark.parametrize("name", ["weights.safetensors", "reference.parquet", "..%2fspec.json", "nothing"])
def test_no_other_file_can_be_had(client, name):
    assert client.get(f"/bundle/binary/{name}").status_code in {404, 422}


def test_the_runtime_is_kept_and_its_worker_can_connect_to_nothing(client):
    [runtime] = client.get("/page/private/network.js").text.split('from "./')[1:]
    folder = runtime.split("/")[0]
    for name in ("ort.mjs", "ort.wasm.gz"):
        answer = client.get(f"/page/private/{folder}/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    worker = client.get("/page/private/worker.js")
    assert worker.headers["content-security-policy"].startswith(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
    )
    assert worker.headers["cache-control"] == "no-cache"
    assert "content-security-policy" not in client.get("/page/private/pool.js").headers


def test_a_model_is_downloaded_with_the_scope_for_it_alone(bundles, tmp_path):
    keys = tmp_path / "keys.json"
    secrets = {"reader": ["classify", "feedback", "admin"], "laptop": ["classify", "download"]}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": scopes}
        for name, scopes in secrets.items()
    ]
    keys.write_text(json.dumps({"keys": entries}))
    with (
        application(tmp_path, bundles, keys=keys, api_keys=(hashlib.sha256(b"old").digest(),)) as app,
        connected(app) as client,
    ):
        statuses = {
            key: client.get("/bundle/binary/spec.json", headers={"x-api-key": key}).status_code
            for key in (*secrets, "old", "none")
        }
    assert statuses == {"reader": 403, "laptop": 200, "old": 403, "none": 401}
