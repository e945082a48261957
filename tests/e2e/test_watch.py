"""From traffic to an incident and back, with a real Prometheus and a real Alertmanager."""

import io
import json
import shutil
import sys
import time
import zipfile
from contextlib import ExitStack
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.support import prometheus
from tests.support.bundles import EXACT
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params
from tests.support.project import ROOT, copied, run
from tests.support.servers import ended, free_port, ready, serving
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.long]
WINDOW = 120
RUNS, EACH = 6, 32
QUICK = {
    "dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
    "train.backbone": "compact",
    "train.epochs": 6,
    "train.learning_rate": 5e-3,
    "train.batch_size": 16,
    "train.seeds": [0],
    "calibrate.folds": 2,
    "train.threads": 1,
    "train.minutes": 60,  # no result depends on how fast this machine is
    "ensemble.members": 1,
    "tune.trials": 0,
    "gate.max_calibration_error": 0.25,  # a few dozen test cells
    "gate.signed_off": {"binary": {"name": "Test", "reason": "made up", "criteria": ["baselines", "replicates"]}},
    "evaluate.mixtures": 20,
    "audit.folds": 2,
}


def accelerated(folder, service, exporter, alertmanager, incidents):
    """Write the configuration that ships, with minutes made seconds and with the ports of this test."""
    yaml, source = YAML(typ="safe"), ROOT / "monitoring" / "prometheus"
    prometheus = yaml.load(source / "prometheus.yml")
    prometheus["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    for job, port in zip(prometheus["scrape_configs"], (service, exporter, incidents), strict=True):
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    rules = yaml.load(source / "rules.yml")
    for rule in rules["groups"][1]["rules"]:
        if rule["alert"] == "FatescopeInputDrift":
            # A machine that trains does not always answer a scrape in a second.
            rule |= {"for": "3s", "keep_firing_for": "20s"}
    alerts = yaml.load(source / "alertmanager.yml")
    alerts["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    alerts["receivers"][0]["webhook_configs"][0]["url"] = f"http://127.0.0.1:{incidents}/"
    for name, content in (("prometheus.yml", prometheus), ("rules.yml", rules), ("alertmanager.yml", alerts)):
        (folder / name).write_text(json.dumps(content))


def cell(seed, medium, level=700):
    """Return a cell: small of one medium, large of another, and of a third that is made of two."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 50), rng.integers(54, 66)
    pixels = draw_cell(rng, height, width, {"a": 8, "o": 14, "n": 7}[medium], level)
    if medium == "n":
        y, x = np.mgrid[:height, :width]
        pixels[np.hypot(y - height / 2, x - width / 2 - 12) < 7] -= 200
        pixels[np.hypot(y - height / 2, x - width / 2 + 12) < 7] -= 200
    return tiff(pixels)


def lamp(run):
    return 690 + 5 * run


def write_cells(folder, media):
    """Write an export: runs of each medium, each with a lamp of its own."""
    folder.mkdir()
    for medium, number in product(media, range(RUNS * EACH)):
        of_run = number % RUNS
        raw = cell(10**6 * ord(medium) + number, medium, lamp(of_run))
        (folder / f"{medium}_1d{of_run}_{number}_Ch1.ome.tif").write_bytes(raw)
    return folder


@pytest.fixture
def watched(tmp_path):
    """A service of a model that the line made, its exporter, Prometheus, Alertmanager and the receiver of incidents."""
    programs = [shutil.which("prometheus"), shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")]
    if not all(programs):
        pytest.skip("no Prometheus and Alertmanager here (Debian: apt install prometheus prometheus-alertmanager)")
    project = copied(tmp_path / "project")
    write_params(project, QUICK)
    write_cells(project / "data", "ao")
    run(project, "dvc", "repro")
    exporter, collector, alertmanager, incidents = (free_port() for _ in range(4))
    records = project / "records"
    settings = {"PYTHONPATH": str(project), "FATESCOPE_POLL_S": "1", "FATESCOPE_RECORDS": str(records), **EXACT}
    with ExitStack() as stack:
        client = stack.enter_context(serving(project, project, settings))
        url, python = str(client.base_url), sys.executable
        accelerated(tmp_path, client.base_url.port, exporter, alertmanager, incidents)
        told = ["--service", url, "--records", str(records), "--window", str(WINDOW)]
        every = ["--every", "1", "--port", str(exporter)]
        stack.enter_context(ended([python, "-m", "monitoring.exporter", *told, *every], project, settings))
        stack.enter_context(
            ended([python, "-m", "monitoring.incidents", *told, "--port", str(incidents)], project, settings)
        )
        config = ["--config.file", "alertmanager.yml", "--storage.path", "alerts", "--cluster.listen-address="]
        listen = ["--web.listen-address", f"127.0.0.1:{alertmanager}"]
        stack.enter_context(ended([programs[1], *config, *listen], tmp_path, {}))
        config = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "tsdb"]
        listen = ["--web.listen-address", f"127.0.0.1:{collector}"]
        stack.enter_context(ended([programs[0], *config, *listen], tmp_path, {}))
        ready(f"http://127.0.0.1:{collector}/-/ready")
        ready(f"http://127.0.0.1:{exporter}/metrics")
        client.prometheus, client.project = f"http://127.0.0.1:{collector}", project
        yield client


def send(client, seed, media, **how):
    """Send a window of cells, of all lamps in turn unless `how` says otherwise."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i in range(WINDOW):
            told = {"level": lamp(i % RUNS)} | how
            archive.writestr(f"{i}.tif", cell(WINDOW * seed + i, media[i % len(media)], **told))
    client.post("/classify_batch", content=packed.getvalue()).raise_for_status()


def value(client, query):
    return prometheus.value(client.prometheus, query)


wait = partial(until, limit_s=180, every_s=0.3)


def drifted(client):
    return "FatescopeInputDrift" in {each["alertname"] for each in prometheus.firing(client.prometheus)}


def quiet(client, version):
    """Wait until the window of a version is judged, and then some; nothing may fire."""
    wait(lambda: value(client, f'fatescope_model_info{{version="{version}"}}') == 1)
    wait(lambda: value(client, "fatescope_window_cells") == WINDOW)
    wait(lambda: value(client, "task:fatescope_drift_over_threshold:max") is not None)
    wait(lambda: not drifted(client))
    end = time.monotonic() + 6
    while time.monotonic() < end:
        assert not drifted(client), value(client, "task:fatescope_drift_over_threshold:max")
        time.sleep(0.3)


def opened(client, known):
    """Wait for the alert and for the incident that it opens beside those that are known; return its folder."""
    wait(lambda: drifted(client))
    folder = client.project / "incidents"
    [place] = wait(lambda: [each for each in folder.glob("*[0-9a-f]") if each not in known])
    return place


def ended_by(client, place):
    wait(lambda: not drifted(client))
    return wait(lambda: json.loads((place / "incident.json").read_text())["ended"])


def test_from_traffic_to_an_incident_and_on_to_a_new_champion(watched):
    project = watched.project
    send(watched, 1, "ao")
    quiet(watched, "1")
    assert not (project / "incidents").exists(), "normal traffic raises nothing"

    send(watched, 2, "ao", level=1400)
    changed_lamp = opened(watched, [])
    assert "outside_background" in json.loads((changed_lamp / "report.json").read_text())["drifted"]
    assert len(pd.read_parquet(changed_lamp / "window.parquet")) == WINDOW
    send(watched, 3, "ao")
    assert ended_by(watched, changed_lamp)
    code = "import mlflow; print(*mlflow.search_runs(experiment_names=['fatescope-incidents'])['tags.incident'])"
    assert changed_lamp.name in run(project, sys.executable, "-c", code)

    send(watched, 4, "n")
    new_medium = opened(watched, [changed_lamp])
    assert {"mmd", "novelty", "unlike"} & set(json.loads((new_medium / "report.json").read_text())["drifted"])

    # What the incident advises, with labels for the new cells.
    assert "fatescope data import " in (new_medium / "README.md").read_text()
    write_params(project, QUICK | {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte", "RA/SHH"]}})
    labelled = write_cells(project.parent / "labelled", "n")
    run(project, sys.executable, "-m", "fatescope.cli", "data", "import", str(labelled))
    run(project, "dvc", "repro")
    # Other classes cannot be compared with the champion, so that a person decides.
    gate = json.loads((project / "reports/binary/gate.json").read_text())
    failed = [name for name, criterion in gate["criteria"].items() if not criterion["holds"]]
    assert (gate["version"], failed) == ("2", ["comparable"]), gate["criteria"]
    run(project, sys.executable, "-m", "fatescope.cli", "models", "promote", "binary", "2", "--reason", "RA/SHH is new")
    [served] = wait(lambda: [each for each in watched.get("/models").json() if each["model"]["version"] == "2"])
    assert served["classes"] == ["astrocyte", "oligodendrocyte", "RA/SHH"]
    assert ended_by(watched, new_medium)
    send(watched, 5, "aon")
    quiet(watched, "2")
    assert len(list((project / "incidents").glob("*[0-9a-f]"))) == 2
