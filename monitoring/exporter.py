"""Compute drift from the prediction log of a service and export it to Prometheus: `python -m monitoring.exporter`.

At every evaluation, the newest predictions of each task by the version that the service has in use are compared with
the reference of that version (`monitoring.drift`) and checked against the expectations that guard training data
(`fatescope.quality.expectations`). Metrics:

| metric | meaning |
|---|---|
| `fatescope_drift_statistic{task,statistic,kind}` | an effect size; `kind` is `input`, `mixture` for the culture, or \
`acquisition` for what the model does not see |
| `fatescope_drift_threshold{task,statistic,kind}` | the value that windows of like cells stay below |
| `fatescope_window_cells{task}` | cells in the window; drift is evaluated from MIN_CELLS on |
| `fatescope_window_not_finite{task}` | cells left out of the window, because a value of theirs is not a number |
| `fatescope_window_verdict_ratio{task,verdict}` | share of the verdict in the window |
| `fatescope_window_expectations_failed{task,severity}` | expectations that the window does not meet |
| `fatescope_accuracy_…`, `fatescope_queue_cells` | how right the model is now (`monitoring.accuracy_metrics`) |
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
import numpy as np
import pandas as pd
import typer
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from fatescope import plural
from fatescope.command import run
from fatescope.config import Validation, load
from fatescope.data.acquisition_facts import PREFIX
from fatescope.data.features import further_channels
from fatescope.inference.uncertainty import VERDICTS
from fatescope.quality import checkpoint, expectations
from fatescope.quality.results import CheckResult
from monitoring.accuracy import AccuracyWatch
from monitoring.accuracy_metrics import AccuracyMetrics
from monitoring.drift import Detector
from monitoring.findings import MIN_CELLS, Report
from monitoring.settings import Every, Feedback, Floor, Host, MonitoringSettings, Records, Service, Window
from monitoring.sources import ServedModel, connect, fetch_models, fetch_reference, read_newest

log = logging.getLogger(__name__)

SEVERITIES = ("critical", "warning")
_EXPECTED = (httpx.HTTPError, OSError, ValueError, KeyError)
"""Errors of a service that is away or restarting, of which one line says enough."""


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
        self._not_finite = gauge("fatescope_window_not_finite", "Cells with values that are no numbers.", ("task",))
        self._verdicts = gauge("fatescope_window_verdict_ratio", "Share of a verdict.", ("task", "verdict"))
        self._failed = gauge("fatescope_window_expectations_failed", "Failed expectations.", ("task", "severity"))
        self._model = gauge("fatescope_model_info", "Model that is monitored.", ("task", "name", "version", "card"))
        self._trained = gauge("fatescope_model_made_timestamp_seconds", "Time when the model was trained.", ("task",))
        self._success = gauge("fatescope_exporter_last_success_timestamp_seconds", "Last complete evaluation.")
        self.accuracy = AccuracyMetrics(self.registry)
        self._detectors: dict[str, tuple[str, Detector]] = {}
        self._watches: dict[str, AccuracyWatch] = {}
        self._shown: dict[str, set[str]] = {}

    def evaluate(self) -> dict[str, Report]:
        """Set all metrics once; return task → report of the tasks whose window is large enough.

        A task whose evaluation fails is logged; the others go on, but the evaluation does not count as complete.
        """
        models = fetch_models(self.client)
        self._model.clear()
        self._trained.clear()
        for task in self._detectors.keys() - {model.task for model in models}:
            # It has no champion any more.
            self._forget(task)
            self.accuracy.forget(task)
            self._cells.remove_by_labels({"task": task})
            self._not_finite.remove_by_labels({"task": task})
            del self._detectors[task]
        reports, complete = {}, True
        for model in models:
            try:
                report = self._evaluate_task(model)
            except _EXPECTED as error:
                log.warning("%s: evaluation failed: %s", model.task, error)
                complete = False
            # Whatever else it is, the other tasks must be watched.
            except Exception:
                log.exception("%s: evaluation failed", model.task)
                complete = False
            else:
                if report:
                    reports[model.task] = report
        if complete:
            self._success.set_to_current_time()
        return reports

    def _evaluate_task(self, model: ServedModel) -> Report | None:
        self._describe(model)
        # Before the window: a new version has a reference even while it has no predictions.
        detector = self._detector(model)
        window = read_newest(self.settings.records, model, self.settings.window)
        # One cell that is no number would make every mean so, and no comparison with a threshold would hold.
        # A fact is a number for those cells alone whose file says it.
        figures = window[[name for name in window.columns if not name.startswith(PREFIX)]].select_dtypes("number")
        finite = np.isfinite(figures.to_numpy(float)).all(axis=1)
        self._not_finite.labels(model.task).set(int((~finite).sum()))
        window = window.iloc[np.flatnonzero(finite)]
        self._cells.labels(model.task).set(len(window))
        report = detector.evaluate(window) if len(window) >= MIN_CELLS else None
        if report is None:
            self._forget(model.task)
        else:
            self._publish(model.task, window, report)
        self._judge_accuracy(model, window, report)
        return report

    def _judge_accuracy(self, model: ServedModel, window: pd.DataFrame, report: Report | None) -> None:
        watch = self._watches[model.task]
        unlabelled = watch.estimate(window, report)
        labelled = watch.from_labels(
            self.settings.records,
            self.settings.feedback,
            model.task,
            model.version,
            like=unlabelled.estimate is not None,
        )
        self.accuracy.publish(model.task, unlabelled, labelled, watch.floor)
        if labelled and labelled.evidence >= 1 and watch.floor is not None:
            labels = plural.count(labelled.labels, "label says", "labels say")
            log.warning("%s: %s that it is less right than %.2f", model.task, labels, watch.floor)

    def _describe(self, model: ServedModel) -> None:
        card = f"{self.settings.service}/card/{model.task}"
        self._model.labels(model.task, model.name, model.version, card).set(1)
        if model.trained:
            self._trained.labels(model.task).set(model.trained.timestamp())

    def _detector(self, model: ServedModel) -> Detector:
        version, detector = self._detectors.get(model.task, (None, None))
        if detector is None or version != model.version:
            reference = fetch_reference(self.client, model.task)
            detector = Detector(reference)
            self._watches[model.task] = AccuracyWatch.of(reference, model.prior, self.settings.accuracy_floor)
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
            self._statistic.labels(task, finding.statistic, finding.kind).set(finding.value)
            self._threshold.labels(task, finding.statistic, finding.kind).set(finding.threshold)
        shown = {finding.statistic for finding in report.findings}
        for statistic in self._shown.get(task, set()) - shown:
            # The newest window has too few cells with this fact, and what was found before must not stay.
            for metric in (self._statistic, self._threshold):
                metric.remove_by_labels({"task": task, "statistic": statistic})
        self._shown[task] = shown
        failed = self._failed_expectations(window)
        for severity in SEVERITIES:
            self._failed.labels(task, severity).set(sum(result["severity"] == severity for result in failed))

    def _failed_expectations(self, window: pd.DataFrame) -> list[CheckResult]:
        with TemporaryDirectory(prefix="fatescope-") as docs:
            suite = expectations.image_expectations(self.validation, ["", *further_channels(window.columns)])
            results = checkpoint.check_tables({"window": (window, suite)}, Path(docs))
        return [result for result in results if not result["passed"]]

    def evaluate_or_warn(self) -> None:
        """Evaluate once, and log what drifted or why the evaluation failed."""
        try:
            reports = self.evaluate()
        # The service may be away for a while; an alert on the last success is raised when it is away for long.
        except _EXPECTED as error:
            log.warning("evaluation failed: %s", error)
            return
        # Whatever else it is, the next evaluation may succeed; without one, nobody would watch any more.
        except Exception:
            log.exception("evaluation failed")
            return
        for task, report in reports.items():
            drifted = ", ".join(
                f"{finding.statistic} ({finding.words})" if finding.words else finding.statistic
                for finding in report.input_drift
            )
            if drifted:
                log.warning("%s: the last %d cells differ from the reference in %s", task, report.cells, drifted)


def main(  # noqa: PLR0913, PLR0917  each is an option of the command
    service: Service = None,
    records: Records = None,
    feedback: Feedback = None,
    accuracy_floor: Floor = None,
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
    settings = MonitoringSettings.read(
        {
            "service": service,
            "records": records,
            "feedback": feedback,
            "accuracy_floor": accuracy_floor,
            "window": window,
            "interval_s": every,
        }
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exporter = Exporter(connect(settings), settings, load(params).validation)
    start_http_server(port, host, exporter.registry)
    log.info("metrics of %s on http://%s:%d/metrics", settings.service, host, port)
    while True:
        exporter.evaluate_or_warn()
        time.sleep(settings.interval_s)


if __name__ == "__main__":
    run(main)
