"""The metrics of `monitoring.accuracy` for Prometheus."""

from prometheus_client import CollectorRegistry, Gauge

from fatescope.inference.accuracy import Estimate
from fatescope.inference.labelling import Labelled
from monitoring.accuracy import REASONS, FromLabels, Unlabelled

BOUNDS = ("value", "low", "high")


class AccuracyMetrics:
    """Gauges by task; one that is not known has no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, ("task", *labels), registry=registry)

        self.estimate = gauge(
            "fatescope_accuracy_estimate", "Balanced accuracy of the newest window, estimated without labels.", "bound"
        )
        self.silent = gauge("fatescope_accuracy_not_estimated", "1: it cannot be estimated, and why.", "reason")
        self.labelled = gauge(
            "fatescope_accuracy_labelled", "Balanced accuracy of the newest batch with enough labels.", "bound"
        )
        self.combined = gauge(
            "fatescope_accuracy_combined", "The same, together with the estimate of that batch without labels.", "bound"
        )
        self.labels = gauge("fatescope_accuracy_labels", "Labels that count, of all batches of the version.")
        self.waiting = gauge("fatescope_queue_cells", "Cells of the newest batch that wait for a label.")
        self.disputed = gauge("fatescope_labels_disputed", "Drawn cells of the version on whose label people disagree.")
        self.evidence = gauge(
            "fatescope_accuracy_evidence_ratio", "Evidence for less accuracy than promised; from 1 on, alarm."
        )
        self.floor = gauge("fatescope_accuracy_floor", "Balanced accuracy that is promised.")

    def publish(self, task: str, unlabelled: Unlabelled, labelled: FromLabels | None, floor: float | None) -> None:
        """Set the metrics of a task, and remove those of which nothing is known any more."""
        estimate = unlabelled.estimate
        _put(self.estimate, task, {} if estimate is None else _bounds(estimate))
        for reason in REASONS:
            if reason != unlabelled.reason:
                self.silent.remove_by_labels({"task": task, "reason": reason})
        _put(self.silent, task, {unlabelled.reason: 1.0} if estimate is None else {})
        from_labels = labelled.estimate if labelled else None
        _put(self.labelled, task, {} if from_labels is None else _bounds(from_labels))
        combined = labelled.combined if labelled else None
        _put(self.combined, task, {} if combined is None else _bounds(combined))
        values: dict[Gauge, float | None] = {
            self.floor: floor,
            self.labels: labelled.labels if labelled else None,
            self.waiting: labelled.waiting if labelled else None,
            self.disputed: labelled.disputed if labelled else None,
            self.evidence: labelled.evidence if labelled else None,
        }
        for metric, value in values.items():
            if value is None:
                metric.remove_by_labels({"task": task})
            else:
                metric.labels(task).set(value)

    def forget(self, task: str) -> None:
        """Remove the metrics of a task."""
        for metric in (
            self.estimate,
            self.silent,
            self.labelled,
            self.combined,
            self.labels,
            self.waiting,
            self.disputed,
            self.evidence,
            self.floor,
        ):
            metric.remove_by_labels({"task": task})


def _bounds(estimate: Estimate | Labelled) -> dict[str, float]:
    return {bound: getattr(estimate, bound) for bound in BOUNDS}


def _put(metric: Gauge, task: str, values: dict[str, float]) -> None:
    """Set the series of a task, one for each value of the second label; others of it go."""
    if not values:
        metric.remove_by_labels({"task": task})
    for label, value in values.items():
        metric.labels(task, label).set(value)
