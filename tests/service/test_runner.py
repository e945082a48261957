"""What a runner tells whoever asks whether it lives, through BentoML as a cluster asks."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.bundles import COMMITTED

PROGRAM = """
import json
from types import SimpleNamespace
from starlette.testclient import TestClient
from service import runner
models = SimpleNamespace(lacks_gpu=False)
runner.LoadedModels = lambda *_: models
# What only a runner with a server does.
for part in ("footprint", "tracing"):
    setattr(runner, part, SimpleNamespace(start=lambda *_, **__: None))
with TestClient(runner.Runner.to_asgi(is_main=False)) as client:
    answers = []
    for models.lacks_gpu in (False, True):
        answers += [client.get(path).status_code for path in ("/livez", "/readyz")]
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_a_runner_without_the_gpu_that_it_was_to_use_gets_no_calls_and_is_started_again():
    # In a process of its own, because BentoML changes the one that imports it.
    environment = {**os.environ, "FATESCOPE_BUNDLES": str(COMMITTED)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [200, 200, 503, 503]


TERMINATED = """
import os, signal, threading, time
from service import runner
runner.LONGEST_S = 0.3
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
# A gateway that was not told to end calls on and on.
runner._outlive_gateways(lambda: False)
began = time.monotonic()
os.kill(os.getpid(), signal.SIGTERM)
told_at_once = ended.is_set()
# The main thread has to run for signals to be handled.
while not ended.is_set() and time.monotonic() - began < 60:
    time.sleep(0.01)
print(told_at_once, ended.is_set())
"""


@pytest.mark.slow
def test_a_runner_that_alone_is_told_to_end_does_so_after_a_while():
    environment = {**os.environ, "FATESCOPE_BUNDLES": str(COMMITTED)}
    command = [sys.executable, "-c", TERMINATED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "False True"
