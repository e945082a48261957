"""What a process that was killed leaves in the metrics."""

import os
import subprocess
import sys

import pytest

from service.inference import metrics_files
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


@pytest.fixture
def run(tmp_path):
    """Run a program that counts in `tmp_path`, and return what it prints."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(program):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert not done.stderr, done.stderr
        return done.stdout

    return run


def test_cells_that_waited_in_a_killed_process_wait_no_more_but_its_counts_stay(run, tmp_path):
    pid = run(KILLED).strip()
    assert (tmp_path / f"gauge_livesum_{pid}.db").exists()
    collected = run(ALIVE)
    assert 'fatescope_waiting_cells{task="binary"} 7.0' in collected
    assert 'fatescope_refused_total{code="zip"} 5.0' in collected
    assert not (tmp_path / f"gauge_livesum_{pid}.db").exists()


FORGETTING = """
import sys
from service.inference import metrics
from service.shadow.metrics import EVIDENCE
for version in ("3", "4"):
    EVIDENCE.labels("binary", version, "better").set(50)
metrics.forget(EVIDENCE, "binary", "3", "better")
lines = metrics.collect().decode().splitlines()
print([line for line in lines if line.startswith("fatescope_challenger_evidence")])
"""


def test_labels_that_were_removed_are_published_by_no_process(run):
    """Of the real files, where prometheus-client cannot remove labels."""
    kept = 'fatescope_challenger_evidence{direction="better",task="binary",version="4"} 50.0'
    assert run(FORGETTING) == f"{[kept]}\n"


COUNTING = """
import os, signal
from service.inference import metrics
metrics.REFUSED.labels("zip").inc(3)
metrics.BATCH.labels("binary").observe(5)
os.kill(os.getpid(), signal.SIGKILL)
"""
COLLECTING = "from service.inference import metrics; print(metrics.collect().decode())"


def counts(text):
    """Return the lines of metrics that were counted in a test."""
    return [line for line in text.splitlines() if line.startswith(("fatescope_refused_total", "fatescope_batch_cells"))]


def test_however_often_a_process_is_killed_its_files_are_few_and_its_counts_all_there(run, tmp_path):
    collected = []
    for _ in range(3):
        run(COUNTING)
        collected.append(counts(run(COLLECTING)))
    assert collected[2] == counts(run(COLLECTING)), "what was added up is not added again"
    assert 'fatescope_refused_total{code="zip"} 9.0' in collected[2]
    assert 'fatescope_batch_cells_bucket{le="4.0",task="binary"} 0.0' in collected[2]
    assert 'fatescope_batch_cells_bucket{le="8.0",task="binary"} 3.0' in collected[2]
    assert 'fatescope_batch_cells_sum{task="binary"} 15.0' in collected[2]
    summed = sorted(path.name for path in tmp_path.glob("[ch]*_ended.db"))
    assert summed == ["counter_ended.db", "histogram_ended.db"]
    # The last one to collect has its own, still.
    assert len(list(tmp_path.glob("counter_*.db"))) <= 2


def test_a_process_that_was_killed_while_it_added_up_has_lost_nothing_and_added_nothing_twice(
    run, tmp_path, monkeypatch
):
    run(COUNTING)
    before = counts(run(COLLECTING))
    run(COUNTING)

    class KilledError(BaseException):
        pass

    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(metrics_files, "_take_over", killed)
        with pytest.raises(KilledError), metrics_files.tidied(tmp_path):
            pass
    assert list(tmp_path.glob("*.complete"))
    after = counts(run(COLLECTING))
    assert 'fatescope_refused_total{code="zip"} 3.0' in before
    assert 'fatescope_refused_total{code="zip"} 6.0' in after
    assert not list(tmp_path.glob("*.complete"))


def test_a_file_that_a_process_left_half_made_keeps_nobody_from_the_metrics(run, tmp_path, caplog):
    run(COUNTING)
    [path] = tmp_path.glob("counter_*.db")
    path.write_bytes(b"")
    with metrics_files.tidied(tmp_path):
        assert not path.exists()
    assert f"{path}: damaged, and left out of the metrics" in caplog.text
    assert counts(run(COLLECTING))
