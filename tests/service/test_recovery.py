"""Each process of the service is killed in turn, and the service comes back by itself."""

import os
import signal
import time

import httpx
import mlflow
import numpy as np
import psutil
import pytest

from tests.support.bundles import EXACT
from tests.support.images import draw_cell, tiff
from tests.support.project import ROOT
from tests.support.servers import RUNNER_PROCESS, serving

pytestmark = pytest.mark.slow

CELL = tiff(draw_cell(np.random.default_rng(0)))
HELPERS = {
    "follower": "registry_sync",
    "runner": "--service-name fatescope-runner",
    "gateway": "--service-name fatescope ",
}
"""Process → what its command line has, followed by a space."""
NAME = "fatescope-binary"


def wait(condition, timeout_s=120):
    end = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"it did not happen in {timeout_s} s"
        time.sleep(0.2)


def helper(client, which):
    """Return the process of a service, which has one of each."""
    for process in psutil.Process(client.process.pid).children(recursive=True):
        try:
            if HELPERS[which] in " ".join([*process.cmdline(), ""]):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def kill(client, which):
    """Kill a process of the service, and wait for the one that takes its place."""
    killed = helper(client, which).pid
    os.kill(killed, signal.SIGKILL)
    wait(lambda: (successor := helper(client, which)) is not None and successor.pid != killed)


def versions(client):
    return [model["model"]["version"] for model in client.get("/models").raise_for_status().json()]


def answers(client):
    return client.get("/readyz").status_code == 200 and client.post("/classify", content=CELL).status_code == 200


def metric(client, line):
    text = client.get("/metrics").text
    return next((float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(f"{line} ")), None)


@pytest.fixture
def served(registry, tmp_path):
    """The client of a service of version 1 in a registry, and the function that adds versions."""
    registry(0)
    # As in the image of a Bento, where BentoML starts no worker again.
    settings = {
        "BENTOML_CONTAINERIZED": "1",
        "FATESCOPE_POLL_S": "0.3",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        **RUNNER_PROCESS,
        **EXACT,
    }
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served", ROOT, settings) as client:
        client.log = tmp_path / "served" / "service.log"
        yield client, registry


def test_a_service_gets_over_the_end_of_each_of_its_processes_and_follows_the_registry(served):
    client, add = served
    for which in ("gateway", "runner"):
        kill(client, which)
        wait(lambda: answers(client))
    assert versions(client) == ["1"]

    kill(client, "follower")
    second = add(1)
    wait(lambda: versions(client) == [second])
    assert answers(client)
    assert metric(client, 'fatescope_background_restarts_total{worker="registry"}') == 1
    assert client.log.read_text().count("registry failed, and is tried again: registry_sync, process") == 1
    checked = metric(client, 'fatescope_background_last_success_timestamp_seconds{worker="registry"}')
    assert abs(checked - time.time()) < 30

    mlflow.MlflowClient().delete_registered_model_alias(NAME, "champion")
    wait(lambda: client.get("/readyz").status_code == 503)
    assert "fatescope-binary version 2 is no longer served" in client.get("/readyz").text
    assert versions(client) == []
    refused = client.post("/classify", params={"task": "binary"}, content=CELL)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_task")
    assert metric(client, 'fatescope_task_served{task="binary"}') == 0
    # One that starts now has nothing to serve, and waits for a champion.
    kill(client, "gateway")
    wait(lambda: client.get("/readyz").status_code == 503)

    mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", "1")
    wait(lambda: answers(client))
    assert versions(client) == ["1"]


def test_a_gateway_with_the_networks_in_it_comes_back(bundles, tmp_path):
    settings = {"BENTOML_CONTAINERIZED": "1", "FATESCOPE_BUNDLES": str(bundles), **EXACT}
    with serving(tmp_path, ROOT, settings) as client:
        assert helper(client, "runner") is None
        kill(client, "gateway")
        wait(lambda: answers(client))


BROKEN = """
import os
import onnxruntime

run = onnxruntime.InferenceSession.run

def fail(self, *arguments):
    with open(os.environ["BROKEN"]) as file:
        if file.read() == str(os.getpid()):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return run(self, *arguments)

onnxruntime.InferenceSession.run = fail
"""
"""What Python runs at the start of each process: the one whose number is in the file `BROKEN` can run no network."""


def test_a_runner_whose_engine_fails_on_everything_is_started_anew(bundles, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    (tmp_path / "broken").write_text("")
    settings = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "BROKEN": str(tmp_path / "broken"), **RUNNER_PROCESS}
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **settings, **EXACT}) as client:
        broken = helper(client, "runner").pid
        (tmp_path / "broken").write_text(str(broken))
        statuses = [client.post("/classify", content=CELL).status_code for _ in range(3)]
        assert statuses == [503] * 3
        wait(lambda: (successor := helper(client, "runner")) is not None and successor.pid != broken)
        wait(lambda: answers(client))
        failed = 'fatescope_engine_restarts_total{outcome="refused",task="multiclass"}'
        assert metric(client, failed) == 1
    log = (tmp_path / "service.log").read_text()
    assert "onnxruntime fails on known good input (RuntimeError: CUDA error" in log
    assert "also when loaded again" in log
