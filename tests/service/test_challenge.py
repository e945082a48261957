"""From a challenger in the shadow, over labels and a share that is taken back, to another one that is promoted.

The service follows a registry, the challenger runs in its process, and Prometheus has the rules that ship.
"""

import io
import itertools
import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from functools import partial

import pytest
from ruamel.yaml import YAML

from tests.support import prometheus
from tests.support.bundles import EXACT
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import ended, free_port, ready, serving
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.long]
CELLS, SHARE = 24, 0.5
RUN = '{state="running",task="binary"}'


@pytest.fixture
def laboratory(registry, tmp_path):
    """A client of a service of version 1, which has the address of its Prometheus, and what adds versions."""
    program = shutil.which("prometheus")
    if not program:
        pytest.skip("no Prometheus here (Debian: apt install prometheus)")
    registry(0)
    settings = {
        "FATESCOPE_POLL_S": "0.5",
        "FATESCOPE_SHADOW": "true",
        "FATESCOPE_CANARY": str(SHARE),
        "FATESCOPE_CANARY_LIMIT_S": "60",
        "FATESCOPE_FEEDBACK": str(tmp_path / "feedback"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        **EXACT,
    }
    with ExitStack() as stack:
        client = stack.enter_context(serving(tmp_path, ROOT, settings))
        port = free_port()
        shutil.copy(ROOT / "monitoring/prometheus/rules.yml", tmp_path)
        content = YAML(typ="safe").load(ROOT / "monitoring/prometheus/prometheus.yml")
        content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        [job] = [job for job in content["scrape_configs"] if job["job_name"] == "fatescope"]
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{client.base_url.port}"]
        content |= {"scrape_configs": [job], "alerting": {}}
        (tmp_path / "prometheus.yml").write_text(json.dumps(content))
        config = ["--config.file", "prometheus.yml", "--storage.tsdb.path", "tsdb"]
        listen = ["--web.listen-address", f"127.0.0.1:{port}"]
        stack.enter_context(ended([program, *config, *listen], tmp_path, {}))
        client.prometheus, client.folder = f"http://127.0.0.1:{port}", tmp_path
        ready(f"{client.prometheus}/-/ready")
        yield client, registry


wait = partial(until, every_s=0.2)


def run(client, *arguments):
    command = [sys.executable, "-m", "fatescope.cli", "models", *arguments]
    return subprocess.run(command, cwd=client.folder, capture_output=True, text=True, check=False)


def models(client, *arguments):
    """Return what a command of `fatescope models` prints."""
    done = run(client, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def live(client):
    """Return what `models compare --live` says; None as long as there is nothing to compare."""
    done = run(client, "compare", "--live", "binary", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def value(client, query):
    return prometheus.value(client.prometheus, query)


def is_told(client):
    """Return whether the alert is firing that a challenger which finds too much unlike has lost its share."""
    told = {(each["alertname"], each.get("reason")) for each in prometheus.firing(client.prometheus)}
    return ("FatescopeCanaryTakenBack", "unlike") in told


def classify(client, seed):
    """Return which version answers for a cell, and how it calls it."""
    answer = client.post("/classify", params={"task": "binary"}, content=tiff(typical(seed))).raise_for_status().json()
    return answer["model"]["version"], answer["label"]


def send_culture(client):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for seed in range(CELLS):
            archive.writestr(f"a_1d1_{seed}_Ch1.ome.tif", tiff(typical(seed)))
    answer = client.post("/classify_batch", params={"task": "binary"}, content=packed.getvalue())
    return answer.raise_for_status().json()["model"]["version"]


def label(client, seed, name):
    files = {"image": (f"a_1d1_{seed}_Ch1.ome.tif", tiff(typical(seed)))}
    asked = {"label": name, "asked": "true"}
    client.post("/feedback", params={"task": "binary"}, files=files, data=asked).raise_for_status()


def test_from_the_shadow_over_a_share_that_is_taken_back_to_a_promotion(laboratory):
    client, add = laboratory
    calls = dict(enumerate(classify(client, seed)[1] for seed in range(CELLS)))

    # In the shadow. To this one every cell is unlike its training cells.
    second = add(2, "challenger", outlier_threshold=1e-6)
    wait(lambda: value(client, f"fatescope_challenger_state{RUN}") == 1)
    wait(lambda: value(client, "fatescope_canary_share") == SHARE)
    assert send_culture(client) == "1", "the cells of a culture stay with the champion"
    wait(lambda: (live(client) or {"cells": 0})["cells"] >= CELLS)

    # Its share of requests, which it loses; no request fails.
    answered, seeds = set(), itertools.count()

    def asked():
        answered.add(classify(client, next(seeds) % CELLS)[0])
        return is_told(client)

    wait(asked)
    assert "1" in answered <= {"1", second}
    assert {classify(client, seed)[0] for seed in range(CELLS)} == {"1"}
    assert value(client, "fatescope_canary_share") == 0

    # Labels reach both.
    for seed in range(CELLS // 2):
        label(client, seed, calls[seed])
    wait(lambda: live(client)["labels"]["cells"] >= CELLS // 2)
    report = live(client)
    assert (report["champion"], report["challenger"], report["agreement"]) == ("1", second, 1.0)
    assert report["labels"]["champion_right"] == report["labels"]["challenger_right"] == CELLS // 2
    assert "taken back" in models(client, "compare", "--live", "binary")

    # Another challenger has its share, keeps it and is promoted.
    third = add(3, "challenger")
    wait(lambda: third in {classify(client, seed)[0] for seed in range(CELLS)})
    wait(lambda: not is_told(client))
    send_culture(client)
    models(client, "promote", "binary", "challenger", "--reason", "as good in the shadow")
    wait(lambda: {classify(client, seed)[0] for seed in range(CELLS)} == {third})
    assert send_culture(client) == third
    past = json.loads(models(client, "history", "binary", "--json"))
    assert (past[-1]["version"], past[-1]["evidence"]["why"]) == (third, "as good in the shadow")
