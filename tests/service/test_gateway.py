"""The service as its users start it: `bentoml serve`.

The gateway has the runner in its own process, but for the tests with RUNNER_PROCESS.
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from fatescope.data.crops import center
from fatescope.inference import bundle
from tests.support.bundles import CANVAS, EXACT, copy_bundle
from tests.support.images import draw_cell, tiff, typical
from tests.support.project import ROOT
from tests.support.servers import RUNNER_PROCESS, serving

pytestmark = pytest.mark.slow

GOOD = draw_cell(np.random.default_rng(0))
KEY = "a key"


def wait_for(condition, timeout_s=120):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"it did not happen in {timeout_s} s"
        time.sleep(0.1)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_response_agrees_with_the_bundle(client, bundles, cell, task):
    response = client.post("/classify", params={"task": task}, content=tiff(cell)).raise_for_status().json()
    model = bundle.load(bundles / task, threads=1)
    expected = model.assess(model.predict(center(cell, CANVAS, "x")[None]))
    np.testing.assert_allclose(list(response["probabilities"].values()), expected.probabilities[0], atol=1e-5)
    assert response["verdict"] == expected.verdicts[0]
    assert response["distance"] == pytest.approx(float(expected.distance[0]), rel=1e-3)
    version = hashlib.sha256((bundles / task / bundle.SPEC).read_bytes()).hexdigest()[:12]
    assert response["model"] == {"name": f"fatescope-{task}", "version": version}


def test_archives_are_unpacked_and_activation_maps_drawn(client):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for seed in range(200):
            archive.writestr(f"a_1d1_{seed}_Ch1.ome.tif", tiff(typical(seed % 20)))
    response = client.post("/classify_batch", content=buffer.getvalue()).raise_for_status().json()
    assert response["sample"]["cells"] == 200
    assert [cell["label"] for cell in response["cells"]] == 10 * [cell["label"] for cell in response["cells"][:20]]
    explained = client.post("/classify", params={"explain": True}, content=tiff(GOOD)).raise_for_status().json()
    assert explained["activation_map"]["label"] == explained["label"]


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
    model = bundle.load(bundles / "multiclass", threads=1)
    expected = model.predict(np.stack([center(pixels, CANVAS, "x") for pixels in cells])).probabilities
    probabilities = [list(responses[i]["probabilities"].values()) for i in range(len(cells))]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_operators_find_probes_metrics_and_documentation(client):
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200
    client.post("/classify", content=tiff(GOOD)).raise_for_status()
    metrics = client.get("/metrics").text
    assert "fatescope_cells_total{" in metrics
    assert "fatescope_batch_cells_bucket{" in metrics
    # What /docs loads is served by BentoML.
    assert client.get("/static_content/swagger-ui-bundle.js").status_code == 200


def test_a_client_that_disconnects_does_not_stop_the_others(client):
    pages = tiff(np.stack([GOOD] * 3000), photometric="minisblack")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/classify_batch", content=pages, timeout=0.5)
    response = client.post("/classify_batch", content=tiff(np.stack([GOOD] * 20), photometric="minisblack"))
    assert response.raise_for_status().json()["sample"]["cells"] == 20


def counts(metrics, name, *labels):
    """Return the values of the series of a metric that have these labels."""
    lines = [line for line in metrics.splitlines() if line.startswith(f"fatescope_{name}{{")]
    return [float(line.split()[-1]) for line in lines if all(label in line for label in labels)]


ANSWERED = ("requests_total", 'path="/classify"', 'status="200"')


@pytest.fixture(scope="module")
def session(bundles, tmp_path_factory):
    """Responses, metrics, log and records of two gateways of one runner, with a key, after they have ended."""
    folder = tmp_path_factory.mktemp("session")
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in ("another key", KEY)]
    settings = {"FATESCOPE_BUNDLES": str(bundles), "FATESCOPE_GATEWAYS": "2", "FATESCOPE_API_KEYS": ", ".join(hashes)}
    headers, name = {"authorization": f"Bearer {KEY}"}, "patient_smith_Ch1.tif"
    with serving(folder, ROOT, {**settings, **RUNNER_PROCESS, **EXACT}) as client:

        def post(path, **request):
            # With a connection for each request, so that both gateways get some.
            return httpx.post(client.base_url.join(path), timeout=client.timeout, **request)

        unauthorised = post("/classify", content=tiff(GOOD))
        public = {path: client.get(path).status_code for path in ("/readyz", "/metrics", "/", "/docs")}
        singles = [post("/classify", headers=headers, files={"image": (name, tiff(GOOD))}) for _ in range(30)]
        # A request is counted once its response has been sent, which may have arrived before.
        wait_for(lambda: sum(counts(client.get("/metrics").text, *ANSWERED)) >= len(singles))
        metrics = client.get("/metrics").text
        post("/classify", headers=headers, files={"image": (name, b"secret secret")})
        pages = tiff(np.stack([GOOD] * 300), photometric="minisblack")
        batch = post("/classify_batch", headers=headers, files={"files": (name, pages)})
    return SimpleNamespace(
        unauthorised=unauthorised,
        public=public,
        singles=[response.raise_for_status().json() for response in singles],
        batch=batch.raise_for_status().json(),
        metrics=metrics,
        log=(folder / "service.log").read_text(),
        records={path: pd.read_parquet(path) for path in (folder / "records").glob("*/*.parquet")},
    )


def test_with_keys_only_requests_with_one_are_answered(session):
    assert session.unauthorised.status_code == 401
    assert session.unauthorised.json()["error"]["code"] == "api_key"
    assert set(session.public.values()) == {200}
    assert len(session.singles) == 30


def test_several_gateways_count_as_one(session):
    for series in (("cells_total",), ("confidence_ratio_count",), ANSWERED):
        assert sum(counts(session.metrics, *series)) == 30, series
    assert len({path.name.split("-")[2] for path in session.records}) == 2, "both processes have answered requests"


def test_all_predictions_are_recorded_when_the_service_has_ended(session):
    rows = pd.concat(session.records.values())
    expected = {response["request_id"]: 1 for response in session.singles} | {session.batch["request_id"]: 300}
    assert rows["request_id"].value_counts().to_dict() == expected
    assert rows["label"].tolist().count(session.batch["cells"][0]["label"]) >= 300


def test_the_log_has_no_image_no_file_name_and_no_key(session):
    assert "/classify" in session.log
    for secret in ("smith", "secret", KEY):
        assert secret not in session.log


@pytest.fixture
def followed(tmp_path):
    """A folder of bundles as `service.registry.registry_sync` keeps it, with version 1 of one task."""
    folder = tmp_path / "followed"
    copy_bundle(folder / "binary" / "1", "binary")
    promote(folder, "1")
    return folder


def promote(folder, version):
    (folder / "new.json").write_text(json.dumps({"binary": version}))
    (folder / "new.json").rename(folder / "champions.json")


def test_a_new_champion_takes_over_without_a_failed_request_and_a_bad_one_does_not(followed, tmp_path):
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(followed), **EXACT}) as client:
        statuses, versions, stop = [], [], threading.Event()

        def post():
            own = []
            with httpx.Client(base_url=client.base_url, timeout=client.timeout) as connection:
                while not stop.is_set():
                    response = connection.post("/classify", content=tiff(GOOD))
                    statuses.append(response.status_code)
                    own.append(response.json()["model"]["version"])
                    versions.append(own[-1])
            assert own == sorted(own), "no client is answered by the old version after the new one"

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(versions) > 20)
        copy_bundle(followed / "binary" / "2", "binary", seed=7)
        promote(followed, "2")
        wait_for(lambda: versions[-1] == "2")
        # A version that does not reproduce its test tensors.
        copy_bundle(followed / "binary" / "3", "binary", seed=9)
        test = bundle.load_file(followed / "binary" / "3" / bundle.TEST)
        save_file({**test, "logits": test["logits"] + 1}, followed / "binary" / "3" / bundle.TEST)
        bundle.finalize(followed / "binary" / "3", bundle.read_spec(followed / "binary" / "3"))
        promote(followed, "3")
        wait_for(lambda: "version 3 is refused" in (tmp_path / "service.log").read_text())
        count = len(versions)
        wait_for(lambda: len(versions) > count + 20)
        stop.set()
        for thread in threads:
            thread.join()
        metrics = client.get("/metrics").text
    assert set(statuses) == {200}
    assert versions[-1] == "2"
    log = (tmp_path / "service.log").read_text()
    assert "do not reproduce" in log
    assert "version 2 stays in service" in log
    assert 'outcome="refused",task="binary"} 1.0' in metrics
    assert 'outcome="serving",task="binary"} 1.0' in metrics


def test_a_folder_of_temporary_files_may_have_a_long_path(bundles, tmp_path):
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    settings = {"TMPDIR": str(folder), "FATESCOPE_BUNDLES": str(bundles), **RUNNER_PROCESS, **EXACT}
    with serving(tmp_path, ROOT, settings, timeout_s=90) as client:
        assert client.post("/classify", content=tiff(GOOD)).raise_for_status().json()["label"]


def test_accepted_work_is_finished_after_a_sigterm(bundles, tmp_path):
    pages = tiff(np.stack([GOOD] * 6000), photometric="minisblack")
    responses = []
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        thread = threading.Thread(target=lambda: responses.append(client.post("/classify_batch", content=pages)))
        thread.start()
        wait_for(lambda: "fatescope_cells_total{" in client.get("/metrics").text)
        assert not responses
        os.kill(client.process.pid, signal.SIGTERM)
        thread.join(120)
        client.process.wait(60)
    assert responses[0].status_code == 200
    assert responses[0].json()["sample"]["cells"] == 6000
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{client.base_url}/readyz")


def test_uploads_that_end_after_a_sigterm_are_answered(bundles, tmp_path):
    """Several at once, for which the gateway has no open connections to the runner."""
    raw, terminated = tiff(GOOD), threading.Event()

    def upload():
        yield raw[:100]
        terminated.wait()
        # Longer than a runner waits for a gateway that does not call.
        time.sleep(7)
        yield raw[100:]

    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **RUNNER_PROCESS, **EXACT}) as client:
        responses = []
        threads = [
            threading.Thread(target=lambda: responses.append(client.post("/classify?explain=1", content=upload())))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        os.kill(client.process.pid, signal.SIGTERM)
        terminated.set()
        for thread in threads:
            thread.join(120)
        client.process.wait(60)
    assert [response.status_code for response in responses] == [200] * len(threads), responses[0].text


def test_without_a_bundle_the_service_says_so_and_ends(tmp_path):
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
            AssertionError,
            match="no registered model 'fatescope-TASK' with the alias 'champion'; run `fatescope repro`",
        ),
        serving(tmp_path, ROOT, environment),
    ):
        pass


def test_no_registry_is_an_error_and_leaves_none(tmp_path):
    """An empty mlflow.db would look like a registry to all that come later."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "service.registry.registry_sync", "champions", "--once"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["error"].startswith("no registry: MLFLOW_TRACKING_URI is not set")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("program", ["service.gateway", "service.runner"])
def test_an_invalid_setting_ends_a_program_with_one_line(program):
    command = [sys.executable, "-c", f"import {program}"]
    environment = os.environ | {"FATESCOPE_API_KEYS": "my-secret", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: FATESCOPE_API_KEYS: an entry of 9 characters")
    assert "my-secret" not in done.stderr
