"""What `fatescope watch` runs beside the service comes back when it is killed."""

import os
import signal
import sys
import threading
import time

import httpx
import pytest

from fatescope.cli import processes
from tests.support.project import ROOT
from tests.support.servers import free_port

pytestmark = pytest.mark.slow


def answers(url, timeout_s=120):
    """Wait until there is an answer."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            return httpx.get(url).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


def test_the_exporter_and_the_incidents_come_back_when_they_are_killed(tmp_path):
    ports = {"exporter": free_port(), "incidents": free_port()}
    common = ["--service", "http://127.0.0.1:1", "--records", str(tmp_path / "records")]
    commands = {
        name: [sys.executable, "-m", f"monitoring.{name}", *common, "--port", str(port)] for name, port in ports.items()
    }
    commands["exporter"] += ["--every", "1", "--params", str(ROOT / "params.yaml")]
    failed = []

    def kill_each():
        try:
            for name, port in ports.items():
                answers(f"http://127.0.0.1:{port}/metrics")
                killed = started[name].pid
                os.kill(killed, signal.SIGKILL)
                while started[name].pid == killed:
                    time.sleep(0.1)
                answers(f"http://127.0.0.1:{port}/metrics")
        except Exception as error:  # noqa: BLE001  of a thread; the test fails with it below
            failed.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill_each)
    environment = {"PYTHONPATH": str(ROOT)}
    with processes.running(commands, environment, tmp_path) as started:
        thread.start()
        with pytest.raises(SystemExit):
            processes.keep(started, commands, environment, tmp_path, steady_s=0.0)
    thread.join()
    assert not failed
