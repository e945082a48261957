"""What a process that was killed leaves in the metrics."""

import os
import subprocess
import sys

from tests.support.project import ROOT

KILLED = """
import os, signal
from service.inference import metrics
metrics.WAITING.labels("binary").inc(500)
metrics.REFUSED.labels("zip").inc(3)
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
ALIVE = """
from service.inference import metrics
metrics.WAITING.labels("binary").inc(7)
metrics.REFUSED.labels("zip").inc(2)
print(metrics.collect().decode())
"""


def test_cells_that_waited_in_a_killed_process_wait_no_more_but_its_counts_stay(tmp_path):
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(program):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert not done.stderr, done.stderr
        return done.stdout

    pid = run(KILLED).strip()
    assert (tmp_path / f"gauge_livesum_{pid}.db").exists()
    collected = run(ALIVE)
    assert 'fatescope_waiting_cells{task="binary"} 7.0' in collected
    assert 'fatescope_refused_total{code="zip"} 5.0' in collected
    assert not (tmp_path / f"gauge_livesum_{pid}.db").exists()
