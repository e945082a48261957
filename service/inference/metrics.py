"""Prometheus metrics, summed over the processes of the service."""

import math
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fatescope.inference.engine_names import EngineName
from service.background import Worker
from service.inference import metrics_files
from service.registry.follower import WORKER, Status

__all__ = [
    "AUDIT_ENTRIES",
    "AUDIT_HEAD",
    "AUDIT_INTACT",
    "BATCH",
    "CONTENT_TYPE_LATEST",
    "DECODING",
    "ENERGY",
    "ENGINE_RESTARTS",
    "PRICE",
    "PROCESSOR_SECONDS",
    "REFUSED",
    "SIGNATURE_REFUSED",
    "SWAPS",
    "TASK_SERVED",
    "UNRECORDED",
    "WAITING",
    "collect",
    "count_cell",
    "count_key",
    "count_key_cells",
    "count_request",
    "forget",
    "publish_engine",
    "publish_worker",
]

_GONE = -math.inf
"""Less than any value of a gauge, the largest of which counts."""

REFUSED = Counter("fatescope_refused", "Rejected files and requests, by error code.", ["code"])
WAITING = Gauge(
    "fatescope_waiting_cells", "Decoded cells waiting for the runner.", ["task"], multiprocess_mode="livesum"
)
BATCH = Histogram(
    "fatescope_batch_cells", "Cells per call to the runner.", ["task"], buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256]
)
SWAPS = Counter("fatescope_swaps", "New champions, by outcome: serving or refused.", ["task", "outcome"])
SIGNATURE_REFUSED = Gauge(
    "fatescope_signature_refused",
    "1 where a version that the registry names is not served, because its signature is missing, wrong or not trusted.",
    ["task"],
    multiprocess_mode="livemax",
)
UNRECORDED = Counter("fatescope_unrecorded_cells", "Predictions that could not be written to the prediction log.")
TASK_SERVED = Gauge(
    "fatescope_task_served",
    "1 where a task is served; 0 where its version has lost its alias, or cannot be loaded.",
    ["task"],
    multiprocess_mode="livemin",
)
DECODING = Gauge(
    "fatescope_decoding",
    "1 where the processes that decode files can be started; 0 where not, and only plain images are answered.",
    multiprocess_mode="livemin",
)
ENGINE_RESTARTS = Counter(
    "fatescope_engine_restarts",
    "Engines that failed on cells and on known good input, by outcome: reloaded or refused.",
    ["task", "outcome"],
)
_ENGINE = Gauge(
    "fatescope_engine",
    "1 for the engine that runs the newest version of a task; runners that differ have one each.",
    ["task", "engine"],
    multiprocess_mode="livemax",
)
_GPU_UNUSED = Gauge(
    "fatescope_gpu_unused",
    "1 where a task runs on the processor although its runner has a GPU, and nobody asked for that engine.",
    ["task"],
    multiprocess_mode="livemax",
)
_WORKER_SUCCESS = Gauge(
    "fatescope_background_last_success_timestamp_seconds",
    "Time of the last success of a background worker.",
    ["worker"],
    multiprocess_mode="livemin",
)
_WORKER_INTERVAL = Gauge(
    "fatescope_background_interval_seconds",
    "Time within which a background worker succeeds when all is well.",
    ["worker"],
    multiprocess_mode="livemax",
)
_WORKER_RESTARTS = Counter(
    "fatescope_background_restarts",
    "Failures of a background worker, after each of which it was started again.",
    ["worker"],
)
PROCESSOR_SECONDS = Counter("fatescope_processor_seconds", "Processor time of gateways and runners, seconds.")
ENERGY = Counter(
    "fatescope_energy_joules",
    "Energy of the work of gateways and runners (processor) and of all GPUs; none where no counter can be read.",
    ["source"],
)
PRICE = Gauge(
    "fatescope_price",
    "Price of an hour of the machine, or of a kWh, as it was set; none where it was not.",
    ["per"],
    multiprocess_mode="livemax",
)
_KEY_REQUESTS = Counter(
    "fatescope_key_requests",
    "Requests by name of their API key and outcome: accepted, scope, quota, unknown. Only where keys are asked for.",
    ["key", "outcome"],
)
_KEY_CELLS = Counter("fatescope_key_cells", "Classified cells by name of the API key.", ["key"])
AUDIT_ENTRIES = Gauge(
    "fatescope_audit_log_entries", "Number of the newest entry of the audit log.", multiprocess_mode="livemostrecent"
)
AUDIT_HEAD = Gauge(
    "fatescope_audit_log_head",
    "The first 12 hexadecimal digits of the hash of that entry, as a number: a kept head to verify the log against.",
    multiprocess_mode="livemostrecent",
)
AUDIT_INTACT = Gauge(
    "fatescope_audit_log_intact",
    "1 where the chain of the audit log held when it was last verified, at the start and daily; 0 where not.",
    multiprocess_mode="livemostrecent",
)
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
_key_requests, _key_cells = cache(_KEY_REQUESTS.labels), cache(_KEY_CELLS.labels)
_requests, _seconds = cache(_REQUESTS.labels), cache(_SECONDS.labels)


def count_cell(task: str, label: str, verdict: str, confidence: float) -> None:
    """Count a classified cell; `confidence` is the probability of its predicted class `label`."""
    _cells(task, label, verdict).inc()
    _confidence(task).observe(confidence)


def count_key(key: str, outcome: str) -> None:
    """Count a request by the name of its key."""
    _key_requests(key, outcome).inc()


def count_key_cells(key: str, cells: int) -> None:
    """Count cells that were classified for a key."""
    _key_cells(key).inc(cells)


def count_request(path: str, status: int, seconds: float) -> None:
    """Count a request to the route `path`."""
    _requests(path, status).inc()
    _seconds(path).observe(seconds)


def publish_engine(task: str, engine: EngineName, *, gpu_unused: bool) -> None:
    """Publish the engine that this process runs a task on, and whether a GPU lies idle beside it."""
    for name in get_args(EngineName):
        if name == engine or (task, name) in _published:
            _published.add((task, name))
            _ENGINE.labels(task, name).set(name == engine)
    _GPU_UNUSED.labels(task).set(gpu_unused)


_published = set[tuple[str, str]]()
"""Tasks and engines of which this process has said something."""


def publish_worker(worker: Worker, failures: int) -> None:
    """Publish how a background worker of this process fares, with the `failures` since the last time."""
    _WORKER_SUCCESS.labels(worker.name).set(worker.last_success)
    _WORKER_INTERVAL.labels(worker.name).set(worker.interval_s)
    _WORKER_RESTARTS.labels(worker.name).inc(failures)


def forget(gauge: Gauge, *labels: str) -> None:
    """Publish a gauge of mode `livemax` no more for these labels, unless another process does.

    prometheus-client cannot remove labels where there are several processes.
    """
    gauge.labels(*labels).set(_GONE)


def collect(follower: Status | None = None) -> bytes:
    """Return the metrics of all processes in the text format of Prometheus, and those of a `follower`."""
    registry = CollectorRegistry()
    registry.register(_Processes(follower))
    with metrics_files.tidied(Path(os.environ[metrics_files.FOLDER])):
        return generate_latest(registry)


class _Processes(Collector):
    """The metrics of all processes, and those of the follower of the registry, which is none of BentoML's."""

    def __init__(self, follower: Status | None) -> None:
        self._more: dict[str, tuple[str, float]] = {}
        if follower:
            restarts = "fatescope_background_restarts"
            self._more = {
                "fatescope_background_last_success_timestamp_seconds": ("", follower.last_success),
                "fatescope_background_interval_seconds": ("", follower.interval_s),
                restarts: ("_total", follower.failures),
            }

    def collect(self) -> Iterable[Metric]:
        """Yield each metric once, with the samples of both."""
        # prometheus-client leaves it untyped.
        for metric in MultiProcessCollector(CollectorRegistry()).collect():  # type: ignore[no-untyped-call]
            if metric.name in self._more:
                suffix, value = self._more[metric.name]
                metric.add_sample(metric.name + suffix, {"worker": WORKER}, value)
            metric.samples = [sample for sample in metric.samples if sample.value != _GONE]
            yield metric
