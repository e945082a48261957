"""Open an incident when an alert about drift fires: `python -m monitoring.incidents`.

Alertmanager posts its alerts here (`monitoring/prometheus/alertmanager.yml`). Every FatescopeInputDrift gets a folder
`incidents/TIME-TASK-FINGERPRINT` and an MLflow run in the experiment `fatescope-incidents`, tagged with the folder:

| file | content |
|---|---|
| `incident.json` | the alert, the model's name and version, and `ended`: when the alert ended, null before |
| `window.parquet` | the rows of the drifted window |
| `report.json` | every statistic with its threshold (`monitoring.drift`) |
| `report.html` | histograms of the window over those of the reference |
| `README.md` | what to do, with the command that imports new labelled cells |
| `mlflow_run.txt` | the id of the run |

A repeated alert opens nothing new, and completes what was interrupted. Other alerts are logged. `/metrics` has the
messages and the time of the last one that was handled.
"""

import json
import logging
import os
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import httpx
import typer

from fatescope import artifact_places, retention
from fatescope.atomic import replacing
from fatescope.command import run
from fatescope.data.folders import fresh_folder
from fatescope.model_registry import QUIET, restore_experiment
from fatescope.retention import Kept, Place
from monitoring import alert_receiver, incident_report
from monitoring.alert_receiver import IncidentError, make_handler
from monitoring.drift import Detector
from monitoring.findings import MIN_CELLS, Report
from monitoring.settings import Host, MonitoringSettings, Records, Service, Window
from monitoring.sources import connect, fetch_models, fetch_reference, read_newest

log = logging.getLogger(__name__)

ALERT = "FatescopeInputDrift"
EXPERIMENT = "fatescope-incidents"
RUN = "mlflow_run.txt"
"""The id of the run, written when all is logged."""
FIELDS = ("status", "startsAt", "endsAt", "fingerprint")
"""Texts that every alert has."""
DESCRIBED = ("incident.json", "report.json")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")

Alert = dict[str, Any]
"""An alert as Alertmanager sends it: `status`, `labels`, `startsAt`, `endsAt`, `fingerprint` (webhook version 4)."""


@dataclass
class Incidents:
    """Opens and ends incidents in a folder."""

    folder: Path
    client: httpx.Client
    """Of the service."""
    settings: MonitoringSettings
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def receive(self, message: dict[str, Any]) -> list[Path]:
        """Handle a message of Alertmanager; return the folders of the incidents that it opened or ended.

        An alert that cannot be handled does not keep the others from it. Raises IncidentError afterwards, for the
        message to be sent again; one that is malformed stays so, and is dropped.
        """
        changed, failed = list[Path](), list[str]()
        for alert in message.get("alerts", []):
            if not _is_alert(alert):
                log.warning("a malformed alert is dropped: %.200s", alert)
                continue
            if alert["labels"].get("alertname") != ALERT:
                log.info("alert %s: %s", alert["labels"].get("alertname"), alert["status"])
                continue
            folder = self._folder_of(alert)
            try:
                # A message that takes long is sent again before it is answered.
                with self._lock:
                    if self._handle(alert, folder):
                        changed.append(folder)
            except Exception as error:  # noqa: BLE001  of the service, the disk or MLflow, each with many of its own
                failed.append(f"{folder.name}: {type(error).__name__}: {error}")
        if failed:
            raise IncidentError("; ".join(failed))
        return changed

    def _handle(self, alert: Alert, folder: Path) -> bool:
        """Open or end the incident of an alert; return whether there was anything to do."""
        if alert["status"] == "firing":
            opened = not _is_whole(folder)
            if opened:
                self._open(alert, folder)
            _log_to_mlflow(folder)
            return opened
        if alert["status"] == "resolved" and folder.exists():
            _end(folder, alert)
            return True
        return False

    def _folder_of(self, alert: Alert) -> Path:
        """Return the folder of an alert; its name has no characters that would lead elsewhere."""
        began = _UNSAFE.sub("", alert["startsAt"].partition(".")[0])
        task, fingerprint = (_UNSAFE.sub("-", text) for text in (alert["labels"]["task"], alert["fingerprint"]))
        return self.folder / f"{began}-{task}-{fingerprint}"

    def _open(self, alert: Alert, folder: Path) -> None:
        task = alert["labels"]["task"]
        model = next((model for model in fetch_models(self.client) if model.task == task), None)
        if model is None:
            raise IncidentError(f"the service has no model of the task {task}")
        reference = fetch_reference(self.client, task)
        window = read_newest(self.settings.records, model, self.settings.window)
        report = Detector(reference).evaluate(window) if len(window) >= MIN_CELLS else Report(len(window), [])
        incident = {
            "alert": alert,
            "task": task,
            "name": model.name,
            "version": model.version,
            "data_hash": model.data_hash,
            "ended": None,
        }
        with fresh_folder(folder) as partial:
            window.to_parquet(partial / "window.parquet")
            _write_json(partial / "report.json", report.as_dict())
            (partial / "report.html").write_text(
                incident_report.to_html(model, report, reference, window), encoding="utf-8"
            )
            _write_json(partial / "incident.json", incident)
            (partial / "README.md").write_text(incident_report.advise(model, report), encoding="utf-8")
        drifted = ", ".join(finding.statistic for finding in report.input_drift)
        log.warning("incident %s opened: %s", folder, drifted or "nothing is above its threshold any more")


def _is_alert(alert: object) -> TypeGuard[Alert]:
    """Return whether something in a message has what every alert has, and the label that one about drift has."""
    if not isinstance(alert, dict) or not isinstance(labels := alert.get("labels"), dict):
        return False
    texts = [alert.get(name) for name in FIELDS] + ([labels.get("task")] if labels.get("alertname") == ALERT else [])
    return all(isinstance(text, str) for text in texts)


def _end(folder: Path, alert: Alert) -> None:
    path = folder / "incident.json"
    try:
        incident = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        log.warning("%s: cannot be read; it is written anew from the alert", path)
        incident = {"alert": alert, "task": alert["labels"]["task"]}
    _write_json(path, incident | {"ended": alert["endsAt"]})
    log.warning("incident %s ended", folder)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Return whether there is an incident in `folder` that can be read."""
    try:
        return all(isinstance(json.loads((folder / name).read_text(encoding="utf-8")), dict) for name in DESCRIBED)
    except (OSError, ValueError):
        return False


def _log_to_mlflow(folder: Path) -> None:
    """Log an incident as a run, unless it has one.

    It lacks one where MLflow could not be reached when the incident was opened.
    """
    marker = folder / RUN
    if marker.exists():
        return
    os.environ.update(QUIET | os.environ)
    import mlflow  # noqa: PLC0415  takes seconds

    artifact_places.put_right(Path.cwd(), mlflow.get_tracking_uri())
    client = mlflow.MlflowClient()
    if restore_experiment(client, EXPERIMENT):
        log.warning("the experiment %s had been deleted in MLflow; it is restored", EXPERIMENT)
    experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
    # One of an attempt that was interrupted, or of an incident that was opened before runs were noted down.
    known = client.search_runs([experiment], f"attributes.run_name = '{folder.name}'", max_results=1)
    incident, report = (json.loads((folder / name).read_text(encoding="utf-8")) for name in DESCRIBED)
    with mlflow.start_run(run_id=known[0].info.run_id if known else None, run_name=folder.name) as run:
        # One that was written anew from its alert names no version.
        known_tags = {name: incident[name] for name in ("task", "version") if name in incident}
        mlflow.set_tags({"incident": str(folder)} | known_tags)
        mlflow.log_metrics({finding["statistic"]: finding["value"] for finding in report["findings"]})
        mlflow.log_artifacts(str(folder))
    marker.write_text(f"{run.info.run_id}\n", encoding="utf-8")


def _expire_daily(kept: Kept) -> None:
    """Delete incidents that ended before the retention time, until the program ends."""
    while True:
        try:
            retention.apply(kept)
        # Whatever it is, tomorrow's try may succeed, and the incidents of today must be opened.
        except Exception:
            log.exception("incidents that are too old could not be deleted")
        time.sleep(retention.DAY_S)


def main(
    folder: Annotated[Path, typer.Option("--folder", help="Folder in which incidents are written.")] = Path(
        "incidents"
    ),
    service: Service = None,
    records: Records = None,
    window: Window = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port for Alertmanager.")] = 9301,
) -> None:
    """Listen for alerts and write an incident for every alert about drift, until stopped.

    Example: python -m monitoring.incidents --folder incidents --service http://127.0.0.1:3000
    """
    settings = MonitoringSettings.read({"service": service, "records": records, "window": window})
    logging.getLogger("httpx").setLevel(logging.WARNING)
    incidents = Incidents(folder, connect(settings), settings)
    alert_receiver.start_metrics()
    if settings.retention_incidents_days is not None:
        kept = Kept(incidents=Place(folder, settings.retention_incidents_days))
        threading.Thread(target=_expire_daily, args=(kept,), daemon=True).start()
    log.info("listening for alerts on http://%s:%d", host, port)
    ThreadingHTTPServer((host, port), make_handler(incidents.receive)).serve_forever()


if __name__ == "__main__":
    run(main)
