import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from pipelines.core import backbones, bundle, images, network
from pipelines.core.errors import BundleError
from pipelines.core.outliers import Outliers
from service import models
from tests.conftest import ROOT, draw_cell, tiff
from tests.serving import serving

pytestmark = pytest.mark.slow
CANVAS = (60, 80)


def write_bundle(folder, task, classes):
    """Write the bundle of an untrained network: what it says means nothing, but it always says the same."""
    torch.manual_seed(len(classes))
    folder.mkdir(parents=True)
    backbone = backbones.build("compact", "none", (45, 60))
    model = network.Network(backbone, len(classes), (45, 60), resize="pad", normalisation="contrast", dropout=0.0)
    network.export(model, CANVAS, folder / bundle.GRAPH)
    pixels = np.stack([draw_cell(np.random.default_rng(0), *CANVAS)])
    found = bundle.Graph(folder / bundle.GRAPH, 1).predict(pixels)
    save_file({"pixels": pixels, "logits": found.logits}, folder / bundle.TEST)
    cloud = np.random.default_rng(0).normal(found.embedding, 1, (50, found.embedding.shape[1])).astype(np.float32)
    Outliers.fit(cloud, np.arange(50) % len(classes), 8).save(folder / bundle.OUTLIERS)
    spec = {
        "format": bundle.FORMAT,
        "opset": bundle.OPSET,
        "task": task,
        "classes": classes,
        "canvas": CANVAS,
        "bit_depths": [16],
        "height_px": (36, 56),
        "width_px": (48, 76),
        "channel": "1",
        "backbone": "compact",
        "join": None,
        "seed": 0,
        "temperature": 1.0,
        "coverage": 0.9,
        "conformal": [0.2] * len(classes),
        "false_alarm": 0.01,
        "outlier_threshold": 3.0,
        "prior": [1 / len(classes)] * len(classes),
        "composition_error": np.zeros((len(classes), len(classes))).tolist(),
        "cost": {"parameters": 1.0, "multiply_adds": 1.0, "fit_seconds": 1.0},
        "split": "grouped",
        "confounded": {},
        "simulated": True,
        "data_hash": "",
        "git_commit": "",
        "params": {},
        "hashes": {},
    }
    bundle.seal(folder, bundle.Spec.model_validate(spec))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "binary", "binary", ["astrocyte", "oligodendrocyte"])
    write_bundle(folder / "multiclass", "multiclass", ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"])
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(bundles)}) as client:
        yield client


@pytest.fixture
def cell(rng):
    return draw_cell(rng)


def expected(bundles, task, pixels):
    model = bundle.load(bundles / task, threads=1)
    return model.predict(images.center(pixels, CANVAS, "x")[None]).probabilities[0]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_over_http_it_says_what_the_bundle_says(client, bundles, cell, task):
    answer = client.post("/classify", params={"task": task}, content=tiff(cell)).raise_for_status().json()
    probabilities = expected(bundles, task, cell)
    np.testing.assert_allclose(list(answer["probabilities"].values()), probabilities, atol=1e-5)
    assert answer["label"] == list(answer["probabilities"])[probabilities.argmax()]
    version = hashlib.sha256((bundles / task / bundle.SPEC).read_bytes()).hexdigest()[:12]
    assert answer["model"] == {"name": f"fatescope-{task}", "version": version}
    assert len(answer["request_id"]) == 16


def test_a_form_and_a_body_are_answered_alike(client, cell):
    body = client.post("/classify", content=tiff(cell)).json()
    form = client.post("/classify", files={"image": ("cell.tif", tiff(cell))}).json()
    assert form["probabilities"] == body["probabilities"]
    assert body["task"] == "multiclass"


def saved(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


GOOD = draw_cell(np.random.default_rng(0))
BAD = {
    "empty": b"",
    "not_an_image": b"https://127.0.0.1/cell.tif",
    "truncated": tiff(GOOD)[:-100],
    "channels": tiff(np.random.default_rng(0).integers(0, 9, (45, 60, 3), np.uint8), photometric="rgb"),
    "too_small": tiff(GOOD[:3, :3]),
    "too_large": saved(Image.new("L", (10_000, 10_000))),
    "bit_depth": saved(Image.fromarray((GOOD >> 4).astype(np.uint8))),
    "pages": tiff(np.stack([GOOD, GOOD]), photometric="minisblack"),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_image_is_refused_by_name_and_the_service_goes_on(client, code):
    answer = client.post("/classify", files={"image": ("a_1d1_3_Ch1.ome.tif", BAD[code])})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"].startswith("a_1d1_3_Ch1.ome.tif: ")
    assert client.post("/classify", content=tiff(GOOD)).status_code == 200


def test_a_cell_larger_than_the_canvas_is_refused(client, rng):
    answer = client.post("/classify", content=tiff(draw_cell(rng, 90, 90)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_large")
    assert "60x80" in answer.json()["error"]["message"]


def test_requests_that_are_wrong_as_such(client, cell):
    def failed(**kwargs):
        answer = client.post("/classify", **kwargs)
        return answer.status_code, answer.json()["error"]["code"]

    assert failed(params={"task": "trinary"}, content=tiff(cell)) == (404, "unknown_task")
    assert failed(files={"picture": ("cell.tif", tiff(cell))}) == (400, "missing_image")
    assert failed(data={"image": "https://127.0.0.1/x"}, files={"other": b""})[0] == 400
    assert failed(content=bytes(20_000_001)) == (413, "body_too_large")
    assert failed(files={"image": bytes(20_000_001)}) == (413, "body_too_large")
    assert failed(content=b"no form", headers={"content-type": "multipart/form-data; boundary=x"})[0] == 400
    assert client.get("/classify").status_code == 405
    assert client.post("/classify", content=tiff(cell)).status_code == 200


def test_what_operators_look_at(client):
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert "bentoml_service" in client.get("/metrics").text
    assert "/classify" in client.get("/docs.json").json()["paths"]


def test_no_model_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("FATESCOPE_BUNDLES", str(tmp_path))
    with pytest.raises(BundleError, match="no bundle folder in it; run `make repro`"):
        models.load_all(models.folder())


def test_an_empty_registry_is_an_error_that_says_what_to_do(tmp_path):
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    code = "from service import models; models.folder()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "no registered model 'fatescope-TASK' with the alias 'champion'; run `make repro`" in done.stderr


def test_a_model_that_does_not_reproduce_is_not_served(tmp_path, monkeypatch):
    write_bundle(tmp_path / "binary", "binary", ["a", "o"])
    test = bundle.load_file(tmp_path / "binary" / bundle.TEST)
    save_file({**test, "logits": test["logits"] + 1}, tmp_path / "binary" / bundle.TEST)
    spec = json.loads((tmp_path / "binary" / bundle.SPEC).read_text())
    bundle.seal(tmp_path / "binary", bundle.Spec.model_validate(spec))
    monkeypatch.setenv("FATESCOPE_BUNDLES", str(tmp_path))
    with pytest.raises(BundleError, match=r"fatescope-binary version .* is not served: .*do not reproduce"):
        models.load_all(models.folder())


def test_without_a_model_the_service_says_so_and_ends(tmp_path):
    environment = {"FATESCOPE_BUNDLES": str(tmp_path / "nothing")}
    with (
        pytest.raises(AssertionError, match=r"the service ended:\s+error: FATESCOPE_BUNDLES=.*no bundle folder in it"),
        serving(tmp_path, ROOT, environment),
    ):
        pass
