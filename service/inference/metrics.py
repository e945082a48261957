"""What Prometheus is told of, summed over processes."""

from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["BATCH", "CONTENT_TYPE_LATEST", "REFUSED", "SWAPS", "UNRECORDED", "WAITING", "cell", "collect", "requests"]

REFUSED = Counter("fatescope_refused", "Files and requests that were refused, by code.", ["code"])
WAITING = Gauge(
    "fatescope_waiting_cells", "Decoded cells that wait for the runner.", ["task"], multiprocess_mode="livesum"
)
BATCH = Histogram(
    "fatescope_batch_cells", "Cells in a call to the runner.", ["task"], buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256]
)
SWAPS = Counter("fatescope_swaps", "New champions, by what became of them: serving or refused.", ["task", "outcome"])
UNRECORDED = Counter("fatescope_unrecorded_cells", "Predictions that could not be recorded.")
_CELLS = Counter("fatescope_cells", "Cells that were classified.", ["task", "label", "verdict"])
_CONFIDENCE = Histogram(
    "fatescope_confidence_ratio",
    "Probability of the class that a cell is called.",
    ["task"],
    buckets=[0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1],
)
_REQUESTS = Counter("fatescope_requests", "Requests that were answered.", ["path", "status"])
_SECONDS = Histogram(
    "fatescope_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer.",
    ["path"],
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
)

# Looking a child up by its labels costs more than counting.
_cells, _confidence = cache(_CELLS.labels), cache(_CONFIDENCE.labels)
_requests, _seconds = cache(_REQUESTS.labels), cache(_SECONDS.labels)


def cell(task: str, label: str, verdict: str, confidence: float) -> None:
    """Count a cell; `confidence` is the probability of the class that it is called."""
    _cells(task, label, verdict).inc()
    _confidence(task).observe(confidence)


def requests(path: str, status: int, seconds: float) -> None:
    """Count a request to the route `path`."""
    _requests(path, status).inc()
    _seconds(path).observe(seconds)


def collect() -> bytes:
    """Return what all processes have counted, in the text format of Prometheus."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # as prometheus-client has it
    return generate_latest(registry)
