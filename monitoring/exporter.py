"""Watch what a service records, and tell Prometheus: `python -m monitoring.exporter --help`.

Every `--every` seconds it takes the newest `--window` predictions of each task, of the version that the service serves
now, compares them with the reference of that version (`monitoring.drift`) and checks the expectations that guard
training data (`fatescope.quality.expectations`). Metrics:

| metric | what it is |
|---|---|
| `fatescope_drift_statistic{task,statistic,kind}` | an effect size; `kind` is `input` or `mixture`: of the culture |
| `fatescope_drift_threshold{task,statistic,kind}` | what windows of like cells stay below |
| `fatescope_window_cells{task}` | cells in the window; drift is judged from FEWEST on |
| `fatescope_window_verdict_ratio{task,verdict}` | share of the verdict in the window |
| `fatescope_window_expectations_failed{task,severity}` | expectations that the window fails |
| `fatescope_model_info{task,name,version,card}` | 1; `card` is where the model's card is |
| `fatescope_model_made_timestamp_seconds{task}` | when it was trained; absent where its bundle does not say |
| `fatescope_exporter_last_success_timestamp_seconds` | when all of this was last worked out |
"""

import argparse
import io
import logging
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pandas as pd
import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from fatescope.config import Validation, load
from fatescope.inference.uncertainty import VERDICTS
from fatescope.quality import expectations
from monitoring import drift
from monitoring.drift import FEWEST, MIXTURE, Detector

log = logging.getLogger(__name__)

SEVERITIES = ("critical", "warning")
_TIME = len("20261125T170242")
"""Characters of the time that names of records begin with."""


@dataclass
class Watched:
    """What is known of the model of a task."""

    version: str
    detector: Detector


@dataclass
class Exporter:
    """Looks at the records of one service, again and again."""

    service: str
    """Its address."""
    records: Path
    window: int
    validation: Validation
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        told = ("task", "statistic", "kind")
        self._statistic = gauge("fatescope_drift_statistic", "Effect size of the newest window.", told)
        self._threshold = gauge("fatescope_drift_threshold", "What windows of like cells stay below.", told)
        self._cells = gauge("fatescope_window_cells", "Cells in the window.", ("task",))
        self._verdicts = gauge("fatescope_window_verdict_ratio", "Share of a verdict.", ("task", "verdict"))
        self._failed = gauge("fatescope_window_expectations_failed", "Failed expectations.", ("task", "severity"))
        self._model = gauge("fatescope_model_info", "The model that is watched.", ("task", "name", "version", "card"))
        self._made = gauge("fatescope_model_made_timestamp_seconds", "When the model was trained.", ("task",))
        self._success = gauge("fatescope_exporter_last_success_timestamp_seconds", "The last time that all was well.")
        self._watched: dict[str, Watched] = {}
        self._client = client_of(self.service)

    def look(self) -> dict[str, drift.Report]:
        """Work out all metrics once; return task → report of those whose window is large enough."""
        reports = {}
        served = self._client.get("/models").raise_for_status().json()
        self._model.clear()
        self._made.clear()
        for each in served:
            task, model = each["task"], each["model"]
            self._model.labels(task, model["name"], model["version"], f"{self.service}/card/{task}").set(1)
            if each.get("made"):
                self._made.labels(task).set(datetime.fromisoformat(each["made"]).timestamp())
            watched = self._watch(task, model["version"])
            window = newest(self.records / task, model["version"], self.window)
            self._cells.labels(task).set(len(window))
            if len(window) < FEWEST:
                # What was said of the version before would stay, and with it its alert.
                for gauge in (self._statistic, self._threshold, self._verdicts, self._failed):
                    gauge.remove_by_labels({"task": task})
                continue
            for verdict in VERDICTS:
                self._verdicts.labels(task, verdict).set(float((window["verdict"] == verdict).mean()))
            reports[task] = watched.detector.evaluate(window)
            for found in reports[task].findings:
                kind = "mixture" if found.statistic in MIXTURE else "input"
                self._statistic.labels(task, found.statistic, kind).set(found.value)
                self._threshold.labels(task, found.statistic, kind).set(found.threshold)
            failed = self._check(window)
            for severity in SEVERITIES:
                self._failed.labels(task, severity).set(sum(result["severity"] == severity for result in failed))
        self._success.set_to_current_time()
        return reports

    def _watch(self, task: str, version: str) -> Watched:
        known = self._watched.get(task)
        if known is None or known.version != version:
            known = self._watched[task] = Watched(version, Detector(reference_of(self._client, task)))
            log.info("%s: watching version %s", task, version)
        return known

    def _check(self, window: pd.DataFrame) -> list[dict[str, Any]]:
        with TemporaryDirectory(prefix="fatescope-") as docs:
            suite = expectations.image_expectations(self.validation)
            results = expectations.check({"window": (window, suite)}, Path(docs))
        return [each for each in results if not each["passed"]]


def client_of(service: str) -> httpx.Client:
    """Return a client of the service, with the key in FATESCOPE_API_KEY where there is one."""
    key = os.environ.get("FATESCOPE_API_KEY")
    return httpx.Client(base_url=service, timeout=30, headers={"Authorization": f"Bearer {key}"} if key else {})


def reference_of(client: httpx.Client, task: str) -> pd.DataFrame:
    """Return the cells that drift of the model of `task` is told by."""
    return pd.read_parquet(io.BytesIO(client.get(f"/reference/{task}").raise_for_status().content))


def newest(folder: Path, version: str, count: int) -> pd.DataFrame:
    """Return the newest `count` predictions of a version that were recorded in `folder`, the oldest first."""
    tables, rows = list[pd.DataFrame](), 0
    # The version follows the time; other numbers, of the process and the file, come after it.
    for path in sorted(folder.glob(f"{'?' * _TIME}-{version}-*.parquet"), reverse=True):
        tables.append(pq.read_table(path).to_pandas())
        rows += len(tables[-1])
        if rows >= count:
            break
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, ignore_index=True).sort_values("time", kind="stable").tail(count).reset_index(drop=True)


def main() -> None:
    """Watch until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="for the section validate")
    parser.add_argument("--service", default="http://127.0.0.1:3000")
    parser.add_argument("--records", type=Path, default=Path("records"))
    parser.add_argument("--window", type=int, default=500, help="cells")
    parser.add_argument("--every", type=float, default=30.0, help="seconds")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9300)
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exporter = Exporter(told.service, told.records, told.window, load(told.params).validation)
    start_http_server(told.port, told.host, exporter.registry)
    while True:
        try:
            for task, report in exporter.look().items():
                drifted = ", ".join(each.statistic for each in report.input_drift)
                if drifted:
                    log.warning("%s: the last %d cells differ in %s", task, report.cells, drifted)
        # The service may be away for a while; the alert on the last success tells when it is for long.
        except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
            log.warning("nothing could be worked out: %s", error)
        time.sleep(told.every)


if __name__ == "__main__":
    main()
