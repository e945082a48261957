import os
import subprocess
import sys

import httpx
import psutil
import pytest

from fatescope.data import images
from fatescope.inference import bundle
from tests.support.bundles import CANVAS, EXACT
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import ended, free_port, ready

pytestmark = pytest.mark.slow


def start(folder, part, port, bundles, **environment):
    """Run a part as a manifest does."""
    folder.mkdir()
    environment = {
        "FATESCOPE_BUNDLES": str(bundles),
        "FATESCOPE_RECORDS": str(folder / "records"),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": str(ROOT),
        **EXACT,
        **environment,
    }
    command = [sys.executable, "-m", "service.standalone", part, "--port", str(port)]
    return ended(command, folder, environment)


def test_gateway_and_runner_are_servers_of_their_own(bundles, tmp_path):
    gateway_port, runner_port, pixels = free_port(), free_port(), typical(3)
    with start(tmp_path / "runner", "runner", runner_port, bundles):
        ready(f"http://127.0.0.1:{runner_port}/readyz")
        address = f"http://127.0.0.1:{runner_port}"
        with start(tmp_path / "gateway", "gateway", gateway_port, bundles, FATESCOPE_RUNNER=address) as gateway:
            ready(f"http://127.0.0.1:{gateway_port}/readyz")
            url = f"http://127.0.0.1:{gateway_port}/classify"
            response = httpx.post(url, content=tiff(pixels), timeout=90).raise_for_status().json()
            model = bundle.load(bundles / "multiclass", threads=1)
            expected = model.predict(images.center(pixels, CANVAS, "x")[None]).probabilities[0]
            assert list(response["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
            # The gateway has no process that runs networks.
            processes = psutil.Process(gateway.pid).children(recursive=True)
            assert processes
            assert not any("fatescope-runner" in " ".join(process.cmdline()) for process in processes)
    records = list((tmp_path / "gateway" / "records").glob("*/*.parquet"))
    assert len(records) == 1, "predictions are recorded when the gateway ends"


def test_a_gateway_needs_the_address_of_its_runner(bundles):
    environment = {name: value for name, value in os.environ.items() if name != "FATESCOPE_RUNNER"}
    command = [sys.executable, "-m", "service.standalone", "gateway"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"FATESCOPE_BUNDLES": str(bundles)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "FATESCOPE_RUNNER is not set" in done.stderr
