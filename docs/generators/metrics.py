"""`metrics.md`: what Prometheus is told, from the metric objects of the service and of the exporter."""

from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from fatescope import config
from generators.markdown import code, sentence, table
from monitoring import alert_receiver
from monitoring.exporter import Exporter
from monitoring.settings import MonitoringSettings
from monitoring.sources import connect
from service.inference import metrics
from service.shadow import metrics as shadow

INTRODUCTION = """\
The service publishes its metrics under `/metrics` on its own port, summed over its processes; the exporter of drift
on port 9300; the receiver of alerts on port 9301. Alerts on them are in `monitoring/prometheus/rules.yml` ([Respond to
alerts](../how-to/respond-to-alerts.md)).

Names are as Prometheus stores them: a counter ends in `_total`; a histogram is `_bucket`, `_sum` and `_count`.
"""


def page(root: Path) -> str:
    """Return the page."""
    service = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    validation = config.load(root / "params.yaml").validation
    settings = MonitoringSettings.read({})
    exporter = Exporter(connect(settings), settings, validation)
    exported = [*vars(exporter).values(), *vars(exporter.accuracy).values()]
    drift = [each for each in exported if isinstance(each, MetricWrapperBase)]
    challengers = [each for each in vars(shadow).values() if isinstance(each, MetricWrapperBase)]
    alerts = [each for each in vars(alert_receiver).values() if isinstance(each, MetricWrapperBase)]
    parts = ["# Metrics", INTRODUCTION, "## Service", _table(service)]
    parts += ["## Challengers", _table(challengers), "## Exporter of drift", _table(drift)]
    parts += ["## Incidents", _table(alerts)]
    return "\n\n".join(parts)


def _table(found: list[MetricWrapperBase]) -> str:
    """Return a row a metric."""
    rows = []
    for each in found:
        [described] = each.describe()
        name = f"{described.name}_total" if described.type == "counter" else described.name
        # prometheus-client tells the labels of a metric nowhere else.
        labels = ", ".join(code(label) for label in each._labelnames)  # noqa: SLF001  see above
        rows.append([code(name), described.type, labels, sentence(described.documentation)])
    return table(["metric", "type", "labels", "meaning"], sorted(rows))
