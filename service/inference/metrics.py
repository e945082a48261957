"""Prometheus metrics, summed over the processes of the service."""

import contextlib
import os
from functools import cache
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = [
    "BATCH",
    "CONTENT_TYPE_LATEST",
    "REFUSED",
    "SWAPS",
    "UNRECORDED",
    "WAITING",
    "collect",
    "count_cell",
    "count_request",
]

REFUSED = Counter("fatescope_refused", "Rejected files and requests, by error code.", ["code"])
WAITING = Gauge(
    "fatescope_waiting_cells", "Decoded cells waiting for the runner.", ["task"], multiprocess_mode="livesum"
)
BATCH = Histogram(
    "fatescope_batch_cells", "Cells per call to the runner.", ["task"], buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256]
)
SWAPS = Counter("fatescope_swaps", "New champions, by outcome: serving or refused.", ["task", "outcome"])
UNRECORDED = Counter("fatescope_unrecorded_cells", "Predictions that could not be written to the prediction log.")
_CELLS = Counter("fatescope_cells", "Classified cells.", ["task", "label", "verdict"])
_CONFIDENCE = Histogram(
    "fatescope_confidence_ratio",
    "Probability of the predicted class.",
    ["task"],
    buckets=[0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1],
)
_REQUESTS = Counter("fatescope_requests", "Answered requests.", ["path", "status"])
_SECONDS = Histogram(
    "fatescope_request_duration_seconds",
    "Time from the first byte of a request to the last byte of its response.",
    ["path"],
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
)

# Looking up a child by its labels costs more than counting.
_cells, _confidence = cache(_CELLS.labels), cache(_CONFIDENCE.labels)
_requests, _seconds = cache(_REQUESTS.labels), cache(_SECONDS.labels)


def count_cell(task: str, label: str, verdict: str, confidence: float) -> None:
    """Count a classified cell; `confidence` is the probability of its predicted class `label`."""
    _cells(task, label, verdict).inc()
    _confidence(task).observe(confidence)


def count_request(path: str, status: int, seconds: float) -> None:
    """Count a request to the route `path`."""
    _requests(path, status).inc()
    _seconds(path).observe(seconds)


def collect() -> bytes:
    """Return the metrics of all processes in the text format of Prometheus."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    _forget_dead_processes(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    return generate_latest(registry)


def _forget_dead_processes(folder: Path) -> None:
    """Delete the gauges of processes that have ended without doing so: what waited in them waits no more.

    Their counters stay, because a counter must not fall.
    """
    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        if pid.isdecimal() and not _is_alive(int(pid)):
            # Another process may be doing the same.
            with contextlib.suppress(FileNotFoundError):
                mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]  # as above


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
