"""Start the service as its users do, wait until it is ready, and end it."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

RUNNER_PROCESS = {"FATESCOPE_RUNNER_PROCESS": "true"}
"""The setting that runs networks in a process of their own, as on a machine with a GPU."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(folder, project, environment=None, timeout_s=180):
    """Serve `project`, sources or a Bento, from the folder `folder` on a free port; yield an HTTP client for it."""
    port, log = free_port(), folder / "service.log"
    built = (project / "bento.yaml").exists()
    what = [project] if built else ["service.gateway:Fatescope", "--working-dir", project]
    command = [Path(sys.executable).with_name("bentoml"), "serve", *what, "--host", "127.0.0.1", "--port", port]
    # A home of its own, so that what BentoML keeps for the user of this machine plays no part.
    settings = {
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "FATESCOPE_RECORDS": str(folder / "records"),
        **(environment or {}),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=os.environ | settings,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait(client, process, log, timeout_s)
            client.process = process
            yield client
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@contextmanager
def ended(command, folder, environment):
    """Run a server until the block ends; its last words are printed."""
    log = folder / f"server{free_port()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, start_new_session=True, env=os.environ | environment
        )
    try:
        yield process
    finally:
        # A fixture does not learn that its test has failed, and pytest shows this only then.
        print(f"{command}:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        # The whole session: servers start workers of their own.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def ready(url, timeout_s=180):
    """Wait until `url` answers with 200."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{url} did not answer in {timeout_s} s")


def _wait(client, process, log, timeout_s):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert process.poll() is None, f"the service ended:\n{log.read_text()[-3000:]}"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the service was not ready in {timeout_s} s:\n{log.read_text()[-3000:]}")
