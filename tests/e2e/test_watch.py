"""From traffic to an incident and back, with a real Prometheus and a real Alertmanager."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT, tiff
from tests.service.conftest import CLASSES, EXACT, typical, write_bundle
from tests.serving import ended, free_port, ready, serving

pytestmark = pytest.mark.slow
WINDOW = 120


def accelerated(folder, service, exporter, alertmanager, incidents):
    """Write the configuration that ships, with minutes made seconds and with the ports of this test."""
    yaml, source = YAML(typ="safe"), ROOT / "monitoring" / "prometheus"
    prometheus = yaml.load(source / "prometheus.yml")
    prometheus["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    for job, port in zip(prometheus["scrape_configs"], (service, exporter), strict=True):
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    rules = yaml.load(source / "rules.yml")
    for rule in rules["groups"][1]["rules"]:
        if rule["alert"] == "FatescopeInputDrift":
            rule["for"] = "3s"
    alerts = yaml.load(source / "alertmanager.yml")
    alerts["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    alerts["receivers"][0]["webhook_configs"][0]["url"] = f"http://127.0.0.1:{incidents}/"
    for name, content in (("prometheus.yml", prometheus), ("rules.yml", rules), ("alertmanager.yml", alerts)):
        (folder / name).write_text(json.dumps(content))


@pytest.fixture
def watched(tmp_path):
    """A service, its exporter, Prometheus, Alertmanager and the receiver of incidents, all of them real."""
    programs = [shutil.which("prometheus"), shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")]
    if not all(programs):
        pytest.skip("no Prometheus and Alertmanager here (Debian: apt install prometheus prometheus-alertmanager)")
    write_bundle(tmp_path / "bundles" / "multiclass", "multiclass", CLASSES)
    exporter, prometheus, alertmanager, incidents = (free_port() for _ in range(4))
    records = tmp_path / "records"
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": str(ROOT)}
    settings = {"FATESCOPE_BUNDLES": str(tmp_path / "bundles"), "FATESCOPE_RECORDS": str(records), **EXACT}
    with ExitStack() as stack:
        client = stack.enter_context(serving(tmp_path, ROOT, settings))
        url, python = str(client.base_url), sys.executable
        accelerated(tmp_path, client.base_url.port, exporter, alertmanager, incidents)
        told = ["--service", url, "--records", str(records), "--window", str(WINDOW)]
        every = ["--params", str(ROOT / "params.yaml"), "--every", "1", "--port", str(exporter)]
        stack.enter_context(ended([python, "-m", "monitoring.exporter", *told, *every], tmp_path, environment))
        opened = ["--folder", str(tmp_path / "incidents"), "--port", str(incidents)]
        stack.enter_context(ended([python, "-m", "monitoring.incidents", *told, *opened], tmp_path, environment))
        config = ["--config.file", "alertmanager.yml", "--storage.path", "alerts", "--cluster.listen-address="]
        listen = ["--web.listen-address", f"127.0.0.1:{alertmanager}"]
        stack.enter_context(ended([programs[1], *config, *listen], tmp_path, {}))
        config = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "tsdb"]
        listen = ["--web.listen-address", f"127.0.0.1:{prometheus}"]
        stack.enter_context(ended([programs[0], *config, *listen], tmp_path, {}))
        ready(f"http://127.0.0.1:{prometheus}/-/ready")
        ready(f"http://127.0.0.1:{exporter}/metrics")
        client.prometheus, client.folder = f"http://127.0.0.1:{prometheus}", tmp_path
        yield client


def send(client, seed, **how):
    pages = np.stack([typical(WINDOW * seed + i, **how) for i in range(WINDOW)])
    client.post("/classify_batch", content=tiff(pages, photometric="minisblack")).raise_for_status()


def alerts(client):
    found = httpx.get(f"{client.prometheus}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}


def value(client, query):
    found = httpx.get(f"{client.prometheus}/api/v1/query", params={"query": query}).json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def wait(what, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.3)
    return found


def test_a_lamp_that_changes_opens_an_incident_which_ends_when_it_is_put_right(watched):
    folder = watched.folder / "incidents"
    send(watched, 1)
    wait(lambda: value(watched, "fatescope_window_cells") == WINDOW)
    wait(lambda: value(watched, "task:fatescope_drift_over_threshold:max") is not None)
    time.sleep(6)
    assert "FatescopeInputDrift" not in alerts(watched), "normal traffic raises nothing"
    assert not folder.exists()

    send(watched, 2, level=1400)
    wait(lambda: "FatescopeInputDrift" in alerts(watched))
    [place] = wait(lambda: list(folder.glob("[!.]*")))
    assert "outside_background" in json.loads((place / "report.json").read_text())["drifted"]
    assert "make adopt" in (place / "README.md").read_text()

    send(watched, 3)
    wait(lambda: "FatescopeInputDrift" not in alerts(watched))
    wait(lambda: json.loads((place / "incident.json").read_text())["ended"])
    assert len(list(folder.glob("[!.]*"))) == 1
    code = "import mlflow; print(*mlflow.search_runs(experiment_names=['fatescope-incidents'])['tags.incident'])"
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{watched.folder}/mlflow.db"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert str(place.name) in found.stdout
