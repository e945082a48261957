"""Open an incident when drift fires: `python -m monitoring.incidents --help`.

Alertmanager posts its alerts here (`monitoring/prometheus/alertmanager.yml`). For each FatescopeInputDrift a folder
`incidents/TIME-TASK-FINGERPRINT` is made, and an MLflow run of the experiment `fatescope-incidents` tagged with it:

| file | what it holds |
|---|---|
| `incident.json` | the alert, the model's name and version, when it began and, once it is over, when it ended |
| `window.parquet` | the rows of the drifted window |
| `report.json` | each statistic with its threshold (`monitoring.drift`) |
| `report.html` | the figures of the window beside those that the model knows |
| `README.md` | what to do, with the command that adopts new labelled cells |

An alert that is told again opens nothing new. Other alerts are logged.
"""

import argparse
import io
import json
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from monitoring.drift import FEWEST, Detector, Report
from monitoring.exporter import client_of, newest, reference_of
from monitoring.statistics import FIGURES

log = logging.getLogger(__name__)

WATCHED = "FatescopeInputDrift"
EXPERIMENT = "fatescope-incidents"
_LARGEST = 1_000_000
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def receive(content: dict[str, Any], folder: Path, service: str, records: Path, window: int) -> list[Path]:
    """Take a message of Alertmanager (webhook version 4); return the folders that it opened or ended."""
    touched = []
    for alert in content.get("alerts", []):
        labels = alert.get("labels", {})
        if labels.get("alertname") != WATCHED:
            log.info("%s %s", labels.get("alertname"), alert.get("status"))
            continue
        name = f"{_NAME.sub('-', labels['task'])}-{_NAME.sub('-', alert['fingerprint'])}"
        begun = _NAME.sub("", alert["startsAt"].partition(".")[0])
        place = folder / f"{begun}-{name}"
        if alert["status"] == "firing" and not place.exists():
            open_incident(alert, place, service, records, window)
            touched.append(place)
        elif alert["status"] == "resolved" and place.exists():
            _end(place, alert["endsAt"])
            touched.append(place)
    return touched


def open_incident(alert: dict[str, Any], place: Path, service: str, records: Path, window: int) -> None:
    """Write the folder `place` for `alert`, and log it to MLflow."""
    task = alert["labels"]["task"]
    client = client_of(service)
    served = next(each for each in client.get("/models").raise_for_status().json() if each["task"] == task)
    reference = reference_of(client, task)
    rows = newest(records / task, served["model"]["version"], window)
    partial = place.with_name(f".{place.name}")
    partial.mkdir(parents=True)
    rows.to_parquet(partial / "window.parquet")
    report = Detector(reference).evaluate(rows) if len(rows) >= FEWEST else Report(len(rows), [])
    (partial / "report.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    (partial / "report.html").write_text(_page(task, served, report, reference, rows))
    about = {"alert": alert, "task": task, **served["model"], "data_hash": served["data_hash"], "ended": None}
    (partial / "incident.json").write_text(json.dumps(about, indent=2) + "\n")
    (partial / "README.md").write_text(_advice(task, served, report))
    partial.rename(place)
    _log(place, about, report)
    log.warning("incident %s: %s", place, ", ".join(each.statistic for each in report.input_drift) or "few cells")


def _end(place: Path, when: str) -> None:
    path = place / "incident.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ended": when}, indent=2) + "\n")
    log.warning("incident %s is over", place)


def _log(place: Path, about: dict[str, Any], report: Report) -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: PLC0415  takes seconds

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=place.name):
        mlflow.set_tags({"incident": str(place), "task": about["task"], "version": about["version"]})
        mlflow.log_metrics({each.statistic: each.value for each in report.findings})
        mlflow.log_artifacts(str(place))


def _advice(task: str, served: dict[str, Any], report: Report) -> str:
    drifted = ", ".join(
        f"`{each.statistic}` ({each.value:.2f}, threshold {each.threshold:.2f})" for each in report.input_drift
    )
    model = f"{served['model']['name']} version {served['model']['version']}"
    return f"""# Cells for {task} are unlike those that {model} knows

Beyond their thresholds: {drifted or "none at the moment of writing"}.
`report.html` shows them; `window.parquet` has the rows.

1. Image a sample that you know. If it is called wrong too, put lamp, focus or gain right; the alert ends by itself.
2. If the cells are new and right, label some of them, name the files as `dataset.pattern` reads them, and

       make adopt SRC=folder-with-the-labelled-cells
       git add data.dvc params.yaml && git commit -m 'Adopt cells of {datetime.now(UTC):%Y-%m-%d}'
       dvc repro

   The gate decides whether the new model is better; the running service takes it up by itself.
"""


def _page(task: str, served: dict[str, Any], report: Report, reference: pd.DataFrame, rows: pd.DataFrame) -> str:
    mpl.use("Agg")
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, name in zip(figure.subplots(2, 5).flat, FIGURES, strict=True):
        for table, color, label in ((reference, "0.5", "known"), (rows, "tab:orange", "window")):
            if len(table):
                axes.hist(table[name], bins=30, density=True, alpha=0.6, color=color, label=label)
        drifted = any(each.statistic.endswith(f"_{name}") for each in report.input_drift)
        axes.set_title(name.replace("_", " "), fontsize=9, color="tab:red" if drifted else "black")
        axes.set_yticks([])
    figure.axes[0].legend(fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    lines = "".join(
        f"<tr{' class=over' if each.drifted else ''}><td>{each.statistic}</td><td>{each.value:.3f}</td>"
        f"<td>{each.threshold:.3f}</td></tr>"
        for each in sorted(report.findings, key=lambda each: -each.value / max(each.threshold, 1e-9))
    )
    model = f"{served['model']['name']} version {served['model']['version']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift: {task}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; border-bottom: 1px solid #ccc; }}
.over {{ color: #9b1c1c; font-weight: bold; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>The last {report.cells} cells for {task}, beside those that {model} knows</h1>
{buffer.getvalue().partition("?>")[2].partition(">")[2]}
<h2>Statistics, the farthest beyond its threshold first</h2>
<table><tr><th>Statistic</th><th>Value</th><th>Threshold</th></tr>{lines}</table>
</body></html>
"""


def handler(take: Callable[[dict[str, Any]], object]) -> type[BaseHTTPRequestHandler]:
    """Return what answers Alertmanager: 200 once `take` has done its work, 400 for what is no message of its."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take one message."""
            size = int(self.headers.get("Content-Length") or 0)
            try:
                content = json.loads(self.rfile.read(min(size, _LARGEST)))
                take(content)
                status = 200
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("no message of Alertmanager: %s", error)
                status = 400
            except (httpx.HTTPError, OSError, StopIteration) as error:
                # Alertmanager sends it again.
                log.warning("the incident could not be opened: %s", error)
                status = 503
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    return Handler


def main() -> None:
    """Listen until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("incidents"))
    parser.add_argument("--service", default="http://127.0.0.1:3000")
    parser.add_argument("--records", type=Path, default=Path("records"))
    parser.add_argument("--window", type=int, default=500, help="cells")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9301)
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    take = handler(lambda content: receive(content, told.folder, told.service, told.records, told.window))
    ThreadingHTTPServer((told.host, told.port), take).serve_forever()


if __name__ == "__main__":
    main()
