"""One image in a request."""

import base64
import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from fatescope.data.crops import center
from fatescope.inference import bundle
from tests.support.bundles import CANVAS, CLASSES
from tests.support.images import draw_cell, tiff, typical
from tests.support.in_process import connected


def assess(bundles, task, pixels):
    model = bundle.load(bundles / task, threads=1)
    return model.assess(model.predict(center(pixels, CANVAS, "x")[None]))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_response_agrees_with_the_bundle(client, bundles, cell, task):
    response = client.post("/classify", params={"task": task}, content=tiff(cell)).raise_for_status().json()
    expected = assess(bundles, task, cell).probabilities[0]
    np.testing.assert_allclose(list(response["probabilities"].values()), expected, atol=1e-5)
    assert response["label"] == list(response["probabilities"])[expected.argmax()]
    version = hashlib.sha256((bundles / task / bundle.SPEC).read_bytes()).hexdigest()[:12]
    assert response["model"] == {"name": f"fatescope-{task}", "version": version}
    assert len(response["request_id"]) == 16


def test_conformal_set_verdict_and_distance_agree_with_the_bundle(client, bundles):
    noise = np.random.default_rng(0).integers(0, 4000, (45, 60), np.uint16)
    verdicts = set()
    for pixels in (*(typical(seed) for seed in range(24)), noise):
        response = client.post("/classify", params={"task": "binary"}, content=tiff(pixels)).raise_for_status().json()
        expected = assess(bundles, "binary", pixels)
        members = [name for name, member in zip(CLASSES[:2], expected.sets[0], strict=True) if member]
        assert (response["conformal_set"], response["verdict"]) == (members, expected.verdicts[0])
        assert response["distance"] == pytest.approx(float(expected.distance[0]), rel=1e-3)
        verdicts.add(response["verdict"])
    assert verdicts == {"sure", "unsure", "unlike_training"}


def test_a_form_and_a_body_give_the_same_prediction(client, cell):
    body = client.post("/classify", content=tiff(cell)).json()
    form = client.post("/classify", files={"image": ("cell.tif", tiff(cell))}).json()
    assert form["probabilities"] == body["probabilities"]
    assert body["task"] == "multiclass"


def test_concurrent_requests_do_not_mix_up_their_predictions(client, bundles):
    cells = [draw_cell(np.random.default_rng(seed)) for seed in range(40)]
    responses = {}

    def post(i):
        responses[i] = client.post("/classify", content=tiff(cells[i])).raise_for_status().json()

    threads = [threading.Thread(target=post, args=(i,)) for i in range(len(cells))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, pixels in enumerate(cells):
        probabilities = list(responses[i]["probabilities"].values())
        np.testing.assert_allclose(probabilities, assess(bundles, "multiclass", pixels).probabilities[0], atol=1e-5)


def test_the_activation_map_has_the_size_of_the_image(client, cell):
    response = client.post("/classify", params={"explain": True}, content=tiff(cell)).json()
    assert response["activation_map"]["label"] == response["label"]
    picture = Image.open(io.BytesIO(base64.b64decode(response["activation_map"]["png"])))
    assert (picture.mode, picture.size) == ("RGBA", (60, 45))
    assert np.asarray(picture)[..., 3].max() > 100


def test_a_size_outside_the_training_data_is_a_warning(client, rng):
    def warnings(pixels):
        response = client.post("/classify", content=tiff(pixels)).raise_for_status().json()
        return [warning["code"] for warning in response["warnings"]]

    assert warnings(draw_cell(rng)) == []
    assert warnings(draw_cell(rng, 20, 60)) == ["size"]
    assert warnings(draw_cell(rng, 90, 90)) == ["size", "size", "cut"]


def png(image):
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
    "too_large": png(Image.new("L", (10_000, 10_000))),
    "bit_depth": png(Image.fromarray((GOOD >> 4).astype(np.uint8))),
    "pages": tiff(np.stack([GOOD, GOOD]), photometric="minisblack"),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_image_is_rejected_with_its_name_and_the_next_request_is_answered(client, code):
    response = client.post("/classify", files={"image": ("a_1d1_3_Ch1.ome.tif", BAD[code])})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert response.json()["error"]["message"].startswith("a_1d1_3_Ch1.ome.tif: ")
    assert client.post("/classify", content=tiff(GOOD)).status_code == 200


def test_another_channel_is_rejected(client):
    response = client.post("/classify", files={"image": ("a_1d1_3_Ch4.ome.tif", tiff(GOOD))})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "other_channel")


def test_invalid_requests_have_their_own_status_and_code(client, cell):
    def error(**request):
        response = client.post("/classify", **request)
        return response.status_code, response.json()["error"]["code"]

    assert error(params={"task": "trinary"}, content=tiff(cell)) == (404, "unknown_task")
    assert error(params={"explain": "perhaps"}, content=tiff(cell)) == (422, "parameters")
    assert error(files={"picture": ("cell.tif", tiff(cell))}) == (400, "missing_image")
    assert error(data={"image": "https://127.0.0.1/x"}, files={"other": b""})[0] == 400
    assert error(content=bytes(20_000_001)) == (413, "body_too_large")
    assert error(files={"image": bytes(20_000_001)}) == (413, "body_too_large")
    assert error(content=b"no form", headers={"content-type": "multipart/form-data; boundary=x"})[0] == 400
    assert client.get("/classify").status_code == 405
    assert client.post("/classify", content=tiff(cell)).status_code == 200


def test_a_runner_that_fails_is_a_503_with_a_time_to_retry(app, cell, monkeypatch):
    async def fail(**_):
        raise ConnectionError("the runner is gone")

    model = app.state.service.models.get("binary")
    monkeypatch.setattr(app.state.service.models._runner, "predict", fail)
    monkeypatch.setattr(app.state.service.models._runner, "explain", fail)
    with connected(app) as client:
        for path in ("/classify", "/classify_batch"):
            response = client.post(path, params={"task": model.spec.task}, content=tiff(cell))
            assert (response.status_code, response.json()["error"]["code"]) == (503, "runner")
            assert response.headers["retry-after"] == "5"
            assert "gone" not in response.text


@pytest.mark.parametrize(("way", "params"), [("hot_path", {}), ("routes.classification", {"explain": True})])
def test_a_bug_is_a_500_that_shows_no_details(app, cell, monkeypatch, caplog, way, params):
    def fail(*_, **__):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(f"service.api.{way}.classify_one", fail)
    with connected(app, raise_server_exceptions=False) as client:
        response = client.post("/classify", params=params, content=tiff(cell))
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "secret detail" not in response.text
    assert "ZeroDivisionError: secret detail" in caplog.text
