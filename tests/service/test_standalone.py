import os
import subprocess
import sys

import httpx
import psutil
import pytest

from tests.support.bundles import EXACT
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import ended, free_port, ready

pytestmark = pytest.mark.slow


def start(folder, part, port, bundles, **told):
    """Run a part as a manifest does."""
    folder.mkdir()
    environment = {"FATESCOPE_BUNDLES": str(bundles), "BENTOML_HOME": str(folder / "bentoml"), "PYTHONPATH": str(ROOT)}
    environment |= {"FATESCOPE_RECORDS": str(folder / "records"), "BENTOML_DO_NOT_TRACK": "True", **EXACT, **told}
    command = [sys.executable, "-m", "service.standalone", part, "--port", str(port)]
    return ended(command, folder, environment)


def test_gateway_and_runner_are_servers_of_their_own(bundles, client, tmp_path):
    ours, theirs = free_port(), free_port()
    raw = tiff(typical(3))
    with start(tmp_path / "runner", "runner", theirs, bundles):
        ready(f"http://127.0.0.1:{theirs}/readyz")
        address = f"http://127.0.0.1:{theirs}"
        with start(tmp_path / "gateway", "gateway", ours, bundles, FATESCOPE_RUNNER=address) as gateway:
            ready(f"http://127.0.0.1:{ours}/readyz")
            answer = httpx.post(f"http://127.0.0.1:{ours}/classify", content=raw, timeout=30).raise_for_status().json()
            together = client.post("/classify", content=raw).raise_for_status().json()
            assert answer["probabilities"] == pytest.approx(together["probabilities"], abs=1e-6)
            # The networks are in the other one: the gateway has no process for them.
            below = psutil.Process(gateway.pid).children(recursive=True)
            assert below
            assert not any("fatescope-runner" in " ".join(each.cmdline()) for each in below)
    records = list((tmp_path / "gateway" / "records").glob("*/*.parquet"))
    assert len(records) == 1, "what was answered is recorded at the end"


def test_a_gateway_needs_to_know_its_runner(bundles):
    environment = {name: value for name, value in os.environ.items() if name != "FATESCOPE_RUNNER"}
    command = [sys.executable, "-m", "service.standalone", "gateway"]
    told = environment | {"FATESCOPE_BUNDLES": str(bundles)}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FATESCOPE_RUNNER is not set" in done.stderr
