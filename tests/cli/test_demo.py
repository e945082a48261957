"""The demo, as a newcomer runs it."""

import os
import subprocess
import sys

import httpx
import pytest

from tests.support.project import ROOT
from tests.support.servers import free_port


@pytest.mark.slow
@pytest.mark.long
def test_the_demo_answers_and_leaves_nothing_behind(tmp_path):
    here, port = tmp_path / "here", free_port()
    here.mkdir()
    command = [sys.executable, "-m", "fatescope.cli", "demo", "--once", "--no-browser"]
    options = ["--folder", str(tmp_path / "demo"), "--port", str(port)]
    # A service of one's own may be set up in this shell.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATESCOPE_API_KEYS": "0" * 64, "FATESCOPE_PIN": "binary=9"}
    done = subprocess.run([*command, *options], cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "SIMULATED" in done.stdout.splitlines()[0]
    assert done.stdout.count("done in ") == 6, "each step says how long it took"
    assert "cells that were drawn as astrocyte" in done.stdout
    assert f"Page  http://127.0.0.1:{port}" in done.stdout
    assert not any(here.iterdir())
    assert (tmp_path / "demo" / "bundles" / "binary" / "spec.json").exists()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/readyz")


def test_a_folder_with_something_in_it_is_refused(fatescope, tmp_path):
    (tmp_path / "mine").touch()
    result = fatescope("demo", "--folder", tmp_path)
    assert (result.code, "is not an empty folder" in result.errors) == (1, True)
