import os
import subprocess
import sys

import httpx
import psutil
import pytest

from fatescope.data.crops import center
from fatescope.inference import bundle
from service.registry import model_store
from service.runner_protocol import MEDIA_TYPE, decode, encode
from tests.support.bundles import CANVAS
from tests.support.images import tiff, typical
from tests.support.project import ROOT
from tests.support.servers import free_port, ready
from tests.support.standalone import SECRET, start

pytestmark = pytest.mark.slow


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
            expected = model.predict(center(pixels, CANVAS, "x")[None]).probabilities[0]
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


def test_a_runner_that_cannot_use_the_gpu_that_it_has_leaves_the_service(bundles, tmp_path):
    """Its GPU is a number only, so that no engine can load."""
    port = free_port()
    chosen = {"CUDA_VISIBLE_DEVICES": "0", "FATESCOPE_ENGINE": "gpu"}
    with start(tmp_path / "runner", "runner", port, bundles, **chosen):
        address = f"http://127.0.0.1:{port}"
        ready(f"{address}/readyz")
        asked = {"task": "binary", "version": model_store.list_champions(bundles)["binary"].version}
        headers = {"content-type": MEDIA_TYPE, "authorization": f"Bearer {SECRET}"}
        response = httpx.post(f"{address}/prepare", content=encode(asked), headers=headers, timeout=90)
        readiness = decode(response.raise_for_status().content)
        assert "no engine runs it on a GPU of this machine (" in readiness["error"]
        assert [httpx.get(f"{address}/{probe}").status_code for probe in ("readyz", "livez")] == [503, 503]
