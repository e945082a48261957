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
