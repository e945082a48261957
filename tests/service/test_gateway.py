import base64
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from fatescope.data import images
from fatescope.inference import bundle
from tests.support.bundles import CANVAS, CLASSES, EXACT, copy_bundle
from tests.support.images import draw_cell, tiff, typical
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow


def judged(bundles, task, pixels):
    model = bundle.load(bundles / task, threads=1)
    return model.assess(model.predict(images.center(pixels, CANVAS, "x")[None]))


def expected(bundles, task, pixels):
    return judged(bundles, task, pixels).probabilities[0]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_over_http_it_says_what_the_bundle_says(client, bundles, cell, task):
    answer = client.post("/classify", params={"task": task}, content=tiff(cell)).raise_for_status().json()
    probabilities = expected(bundles, task, cell)
    np.testing.assert_allclose(list(answer["probabilities"].values()), probabilities, atol=1e-5)
    assert answer["label"] == list(answer["probabilities"])[probabilities.argmax()]
    version = hashlib.sha256((bundles / task / bundle.SPEC).read_bytes()).hexdigest()[:12]
    assert answer["model"] == {"name": f"fatescope-{task}", "version": version}
    assert len(answer["request_id"]) == 16


def test_it_says_how_far_to_trust_it(client, bundles):
    noise = np.random.default_rng(0).integers(0, 4000, (45, 60), np.uint16)
    seen = set()
    for pixels in (*(typical(seed) for seed in range(24)), noise):
        answer = client.post("/classify", params={"task": "binary"}, content=tiff(pixels)).raise_for_status().json()
        known = judged(bundles, "binary", pixels)
        held = [name for name, chosen in zip(CLASSES[:2], known.sets[0], strict=True) if chosen]
        assert (answer["conformal_set"], answer["verdict"]) == (held, known.verdicts[0])
        assert answer["distance"] == pytest.approx(float(known.distance[0]), rel=1e-3)
        seen.add(answer["verdict"])
    assert seen == {"sure", "unsure", "unlike_training"}


def test_a_form_and_a_body_are_answered_alike(client, cell):
    body = client.post("/classify", content=tiff(cell)).json()
    form = client.post("/classify", files={"image": ("cell.tif", tiff(cell))}).json()
    assert form["probabilities"] == body["probabilities"]
    assert body["task"] == "multiclass"


def test_many_requests_at_once_get_each_their_own_answer(client, bundles):
    cells = [draw_cell(np.random.default_rng(seed)) for seed in range(40)]
    answers = {}

    def ask(i):
        answers[i] = client.post("/classify", content=tiff(cells[i])).raise_for_status().json()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(cells))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for i, each in enumerate(cells):
        said = list(answers[i]["probabilities"].values())
        np.testing.assert_allclose(said, expected(bundles, "multiclass", each), atol=1e-5)


def test_where_the_network_looked(client, cell):
    answer = client.post("/classify", params={"explain": True}, content=tiff(cell)).json()
    assert answer["activation_map"]["label"] == answer["label"]
    drawn = Image.open(io.BytesIO(base64.b64decode(answer["activation_map"]["png"])))
    assert (drawn.mode, drawn.size) == ("RGBA", (60, 45))
    assert np.asarray(drawn)[..., 3].max() > 100


def test_a_size_that_it_has_not_learned_from_is_a_warning(client, rng):
    def warned(pixels, **how):
        answer = client.post("/classify", content=tiff(pixels, **how)).raise_for_status().json()
        return [each["code"] for each in answer["warnings"]]

    assert warned(draw_cell(rng)) == []
    assert warned(draw_cell(rng, 20, 60)) == ["size"]
    assert warned(draw_cell(rng, 90, 90)) == ["size", "size", "cut"]


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


def test_another_channel_is_refused(client):
    answer = client.post("/classify", files={"image": ("a_1d1_3_Ch4.ome.tif", tiff(GOOD))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "other_channel")


def test_requests_that_are_wrong_as_such(client, cell):
    def failed(**kwargs):
        answer = client.post("/classify", **kwargs)
        return answer.status_code, answer.json()["error"]["code"]

    assert failed(params={"task": "trinary"}, content=tiff(cell)) == (404, "unknown_task")
    assert failed(params={"explain": "perhaps"}, content=tiff(cell)) == (422, "parameters")
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
    client.post("/classify", content=tiff(GOOD)).raise_for_status()
    told = client.get("/metrics").text
    assert "bentoml_service" in told
    assert "fatescope_cells_total{" in told
    assert "fatescope_batch_cells_bucket{" in told
    assert {"/classify", "/classify_batch", "/models", "/card/{task}"} <= set(
        client.get("/openapi.json").json()["paths"]
    )
    page = client.get("/docs").text
    assert "swagger-ui" in page
    assert client.get("/static_content/swagger-ui-bundle.js").status_code == 200


def test_several_gateways_count_as_one(bundles, tmp_path):
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), "FATESCOPE_GATEWAYS": "2", **EXACT}) as client:
        for _ in range(30):
            # A connection of its own each, so that both are asked.
            httpx.post(client.base_url.join("/classify"), content=tiff(GOOD), timeout=30).raise_for_status()
        told = client.get("/metrics").text
        for name in ("cells_total", "confidence_ratio_count", "requests_total"):
            lines = [line for line in told.splitlines() if re.match(rf"fatescope_{name}{{.*(task|/classify)", line)]
            assert sum(float(line.split()[-1]) for line in lines) == 30, name
    paths = list((tmp_path / "records").glob("*/*.parquet"))
    assert len({path.name.split("-")[2] for path in paths}) == 2, "both processes have answered"
    rows = pd.concat(map(pd.read_parquet, paths))
    assert len(rows) == 30
    assert rows["request_id"].is_unique


def test_models_and_cards(client):
    multiclass, binary = client.get("/models").json()
    assert multiclass["classes"] == CLASSES
    assert (multiclass["engine"], binary["task"]) == ("onnxruntime", "binary")
    missing = client.get("/card/binary")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_card")
    assert client.get("/card/trinary").json()["error"]["code"] == "unknown_task"


def test_nothing_of_an_image_or_its_name_is_logged(bundles, tmp_path):
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        client.post("/classify", files={"image": ("patient_smith_Ch1.tif", tiff(GOOD))}).raise_for_status()
        client.post("/classify", files={"image": ("patient_smith_Ch1.tif", b"secret secret")})
        client.post("/classify_batch", files={"files": ("patient_smith_Ch1.tif", b"secret secret")})
    log = (tmp_path / "service.log").read_text()
    assert "/classify" in log
    assert "smith" not in log
    assert "secret" not in log


def test_with_keys_only_those_who_have_one_are_answered(bundles, tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "service.api.auth"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    key = made.stdout.splitlines()[0].split()[-1]
    hashed = made.stdout.splitlines()[1].split("=")[1]
    keys = {"FATESCOPE_API_KEYS": f"{hashlib.sha256(b'another').hexdigest()}, {hashed}"}
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT, **keys}) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": f"Basic {key}"}):
            answer = client.post("/classify", content=tiff(GOOD), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"x-api-key": "another"}):
            assert client.post("/classify", content=tiff(GOOD), headers=headers).status_code == 200
        assert client.get("/models").status_code == 401
        assert client.get("/readyz").status_code == 200
    assert key not in (tmp_path / "service.log").read_text()


@pytest.fixture
def followed(tmp_path):
    """A folder of bundles as `service.registry.registry_sync` keeps it, with version 1 of one task."""
    folder = tmp_path / "followed"
    copy_bundle(folder / "binary" / "1", "binary")
    put_in_place(folder, "1")
    return folder


def put_in_place(folder, version):
    (folder / "new.json").write_text(json.dumps({"binary": version}))
    (folder / "new.json").rename(folder / "champions.json")


def wait_for(what, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def test_a_new_champion_takes_over_without_a_failed_request_and_a_bad_one_does_not(followed, tmp_path):
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(followed), **EXACT}) as client:
        statuses, versions, on = [], [], threading.Event()

        def ask():
            own = []
            with httpx.Client(base_url=client.base_url) as connection:
                while not on.is_set():
                    answer = connection.post("/classify", content=tiff(GOOD))
                    statuses.append(answer.status_code)
                    own.append(answer.json()["model"]["version"])
                    versions.append(own[-1])
            assert own == sorted(own), "nobody is answered by the old one after the new one"

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        wait_for(lambda: len(versions) > 20)
        copy_bundle(followed / "binary" / "2", "binary", seed=7)
        put_in_place(followed, "2")
        wait_for(lambda: versions[-1] == "2")
        # One that does not say here what it said where it was made.
        copy_bundle(followed / "binary" / "3", "binary", seed=9)
        test = bundle.load_file(followed / "binary" / "3" / bundle.TEST)
        save_file({**test, "logits": test["logits"] + 1}, followed / "binary" / "3" / bundle.TEST)
        bundle.finalize(followed / "binary" / "3", bundle.read_spec(followed / "binary" / "3"))
        put_in_place(followed, "3")
        wait_for(lambda: "version 3 is refused" in (tmp_path / "service.log").read_text())
        asked = len(versions)
        wait_for(lambda: len(versions) > asked + 20)
        on.set()
        for each in threads:
            each.join()
        told = client.get("/metrics").text
    assert set(statuses) == {200}
    assert versions[-1] == "2"
    log = (tmp_path / "service.log").read_text()
    assert "do not reproduce" in log
    assert "version 2 stays in service" in log
    assert 'outcome="refused",task="binary"} 1.0' in told
    assert 'outcome="serving",task="binary"} 1.0' in told


def test_accepted_work_is_finished_when_it_is_told_to_end(bundles, tmp_path):
    pages = tiff(np.stack([GOOD] * 6000), photometric="minisblack")
    found = {}
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:

        def ask():
            found["answer"] = client.post("/classify_batch", content=pages)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_for(lambda: "fatescope_cells_total{" in client.get("/metrics").text)
        assert "answer" not in found
        master = client.process
        os.kill(master.pid, signal.SIGTERM)
        thread.join(60)
        master.wait(30)
    assert found["answer"].status_code == 200
    assert found["answer"].json()["sample"]["cells"] == 6000
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{client.base_url}/readyz")


def test_an_upload_that_is_slower_than_the_end_is_answered_too(bundles, tmp_path):
    raw, told = tiff(GOOD), threading.Event()

    def slowly():
        yield raw[:100]
        told.wait()
        # Longer than a runner waits for a gateway that says nothing.
        time.sleep(7)
        yield raw[100:]

    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        found = []
        thread = threading.Thread(target=lambda: found.append(client.post("/classify", content=slowly())))
        thread.start()
        time.sleep(1)
        os.kill(client.process.pid, signal.SIGTERM)
        told.set()
        thread.join(60)
        client.process.wait(30)
    assert found[0].status_code == 200, found[0].text


def test_without_a_model_the_service_says_so_and_ends(tmp_path):
    environment = {"FATESCOPE_BUNDLES": str(tmp_path / "nothing")}
    with (
        pytest.raises(AssertionError, match=r"the service ended:\s+error: FATESCOPE_BUNDLES=.*no bundle folder in it"),
        serving(tmp_path, ROOT, environment),
    ):
        pass


def test_an_empty_registry_is_an_error_that_says_what_to_do(tmp_path):
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    with (
        pytest.raises(
            AssertionError, match="no registered model 'fatescope-TASK' with the alias 'champion'; run `make"
        ),
        serving(tmp_path, ROOT, environment),
    ):
        pass


def test_a_key_that_is_no_hash_is_an_error_that_does_not_tell_it(bundles, tmp_path):
    environment = {"FATESCOPE_BUNDLES": str(bundles), "FATESCOPE_API_KEYS": "my-secret"}
    with (
        pytest.raises(AssertionError, match="FATESCOPE_API_KEYS: an entry of 9 characters") as raised,
        serving(tmp_path, ROOT, environment),
    ):
        pass
    assert "my-secret" not in str(raised.value)


def test_what_comes_without_a_key_or_is_too_long_is_not_read(bundles, tmp_path):
    keys = {"FATESCOPE_API_KEYS": hashlib.sha256(b"key").hexdigest()}
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT, **keys}) as client:

        def post(path, headers=None, **how):
            answer = client.post(path, headers=headers, **how)
            return answer.status_code, answer.json()["error"]["code"]

        key = {"x-api-key": "key"}
        for path in ("/feedback", "/summarise", "/export", "/classify", "/classify_batch"):
            assert post(path, content=b"{" * 1_000_000) == (401, "api_key")
        files = {"image": bytes(20_000_001)}
        assert post("/feedback", key, files=files, data={"label": "astrocyte"}) == (413, "body_too_large")
        # A length that is not announced is counted.
        assert post("/classify", key, content=iter([bytes(1_000_000)] * 21)) == (413, "body_too_large")
        json_type = {"content-type": "application/json"}
        assert post("/summarise", key | json_type, content=iter([b" " * 10_000_000] * 21)) == (413, "body_too_large")
        for path in ("/", "/page/app.js", "/docs", "/metrics", "/openapi.json", "/readyz"):
            assert client.get(path).status_code == 200
