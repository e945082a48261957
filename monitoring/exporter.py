"""Compute drift from the prediction log of a service and export it to Prometheus: `python -m monitoring.exporter`.

At every evaluation, the newest predictions of each task by the version that the service has in use are compared with
the reference of that version (`monitoring.drift`) and checked against the expectations that guard training data
(`fatescope.quality.expectations`). Metrics:

| metric | meaning |
|---|---|
| `fatescope_drift_statistic{task,statistic,kind}` | an effect size; `kind` is `input`, or `mixture` for the culture |
| `fatescope_drift_threshold{task,statistic,kind}` | the value that windows of like cells stay below |
| `fatescope_window_cells{task}` | cells in the window; drift is evaluated from MIN_CELLS on |
| `fatescope_window_verdict_ratio{task,verdict}` | share of the verdict in the window |
| `fatescope_window_expectations_failed{task,severity}` | expectations that the window does not meet |
| `fatescope_model_info{task,name,version,card}` | 1; `card` is the address of the model card |
| `fatescope_model_made_timestamp_seconds{task}` | time of training; absent where the bundle does not say |
| `fatescope_exporter_last_success_timestamp_seconds` | time of the last complete evaluation |
"""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import pandas as pd
import typer
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from fatescope.command import run
from fatescope.config import Validation, load
from fatescope.inference.uncertainty import VERDICTS
from fatescope.quality import checkpoint, expectations
from fatescope.quality.results import CheckResult
from monitoring.drift import MIN_CELLS, MIXTURE, Detector, Report
from monitoring.settings import Every, Host, MonitoringSettings, Records, Service, Window
from monitoring.sources import ServedModel, connect, fetch_models, fetch_reference, read_newest

log = logging.getLogger(__name__)

SEVERITIES = ("critical", "warning")


@dataclass
class Exporter:
    """Evaluates the prediction log of one service and sets the metrics."""

    client: httpx.Client
    """Of the service."""
    settings: MonitoringSettings
    validation: Validation
    """The expectations of params.yaml."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        labels = ("task", "statistic", "kind")
        self._statistic = gauge("fatescope_drift_statistic", "Effect size of the newest window.", labels)
        self._threshold = gauge("fatescope_drift_threshold", "Value that windows of like cells stay below.", labels)
        self._cells = gauge("fatescope_window_cells", "Cells in the window.", ("task",))
        self._verdicts = gauge("fatescope_window_verdict_ratio", "Share of a verdict.", ("task", "verdict"))
        self._failed = gauge("fatescope_window_expectations_failed", "Failed expectations.", ("task", "severity"))
        self._model = gauge("fatescope_model_info", "Model that is monitored.", ("task", "name", "version", "card"))
        self._trained = gauge("fatescope_model_made_timestamp_seconds", "Time when the model was trained.", ("task",))
        self._success = gauge("fatescope_exporter_last_success_timestamp_seconds", "Last complete evaluation.")
        self._detectors: dict[str, tuple[str, Detector]] = {}

    def evaluate(self) -> dict[str, Report]:
        """Set all metrics once; return task → report of the tasks whose window is large enough."""
        models = fetch_models(self.client)
        self._model.clear()
        self._trained.clear()
        for task in self._detectors.keys() - {model.task for model in models}:
            # It has no champion any more.
            self._forget(task)
            self._cells.remove_by_labels({"task": task})
            del self._detectors[task]
        reports = {}
        for model in models:
            self._describe(model)
            # Before the window: a new version has a reference even while it has no predictions.
            detector = self._detector(model)
            window = read_newest(self.settings.records, model, self.settings.window)
            self._cells.labels(model.task).set(len(window))
            if len(window) < MIN_CELLS:
                self._forget(model.task)
                continue
            reports[model.task] = detector.evaluate(window)
            self._publish(model.task, window, reports[model.task])
        self._success.set_to_current_time()
        return reports

    def _describe(self, model: ServedModel) -> None:
        card = f"{self.settings.service}/card/{model.task}"
        self._model.labels(model.task, model.name, model.version, card).set(1)
        if model.trained:
            self._trained.labels(model.task).set(model.trained.timestamp())

    def _detector(self, model: ServedModel) -> Detector:
        version, detector = self._detectors.get(model.task, (None, None))
        if detector is None or version != model.version:
            detector = Detector(fetch_reference(self.client, model.task))
            self._detectors[model.task] = (model.version, detector)
            log.info("%s: monitoring version %s", model.task, model.version)
        return detector

    def _forget(self, task: str) -> None:
        """Remove the metrics of a task: those of the version before would stay, and with them its alert."""
        for metric in (self._statistic, self._threshold, self._verdicts, self._failed):
            metric.remove_by_labels({"task": task})

    def _publish(self, task: str, window: pd.DataFrame, report: Report) -> None:
        for verdict in VERDICTS:
            self._verdicts.labels(task, verdict).set(float((window["verdict"] == verdict).mean()))
        for finding in report.findings:
            kind = "mixture" if finding.statistic in MIXTURE else "input"
            self._statistic.labels(task, finding.statistic, kind).set(finding.value)
            self._threshold.labels(task, finding.statistic, kind).set(finding.threshold)
        failed = self._failed_expectations(window)
        for severity in SEVERITIES:
            self._failed.labels(task, severity).set(sum(result["severity"] == severity for result in failed))

    def _failed_expectations(self, window: pd.DataFrame) -> list[CheckResult]:
        with TemporaryDirectory(prefix="fatescope-") as docs:
            suite = expectations.image_expectations(self.validation)
            results = checkpoint.check_tables({"window": (window, suite)}, Path(docs))
        return [result for result in results if not result["passed"]]

    def evaluate_or_warn(self) -> None:
        """Evaluate once, and log what drifted or why the evaluation failed."""
        try:
            reports = self.evaluate()
        # The service may be away for a while; an alert on the last success is raised when it is away for long.
        except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
            log.warning("evaluation failed: %s", error)
            return
        # Whatever else it is, the next evaluation may succeed; without one, nobody would watch any more.
        except Exception:
            log.exception("evaluation failed")
            return
        for task, report in reports.items():
            drifted = ", ".join(finding.statistic for finding in report.input_drift)
            if drifted:
                log.warning("%s: the last %d cells differ from the reference in %s", task, report.cells, drifted)


def main(
    service: Service = None,
    records: Records = None,
    window: Window = None,
    every: Every = None,
    params: Annotated[Path, typer.Option("--params", help="params.yaml, for its section validate.")] = Path(
        "params.yaml"
    ),
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port for /metrics.")] = 9300,
) -> None:
    """Export the drift of production cells to Prometheus until stopped.

    Example: python -m monitoring.exporter --service http://127.0.0.1:3000 --every 60
    """
    settings = MonitoringSettings.read({"service": service, "records": records, "window": window, "interval_s": every})
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exporter = Exporter(connect(settings), settings, load(params).validation)
    start_http_server(port, host, exporter.registry)
    log.info("metrics of %s on http://%s:%d/metrics", settings.service, host, port)
    while True:
        exporter.evaluate_or_warn()
        time.sleep(settings.interval_s)


if __name__ == "__main__":
    run(main)
