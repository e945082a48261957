import io
import time

import httpx
import numpy as np
import pytest

from monitoring.drift import MIN_CELLS
from monitoring.exporter import Exporter
from monitoring.settings import MonitoringSettings
from monitoring.sources import ServedModel, connect, read_newest
from tests.support.populations import population

MADE = "1970-01-02T00:00:00Z"


class Service:
    """A service with one model, whose version can be replaced, and whose reference is known."""

    def __init__(self):
        self.version, self.paths, self.tasks = "3", [], ["binary"]
        self.broken = set()
        self.facts = {}

    def respond(self, request):
        self.paths.append(request.url.path)
        if request.url.path == "/models":
            if self.version is None:
                return httpx.Response(200, json=[])
            entries = [
                {"task": task, "model": {"name": f"fatescope-{task}", "version": self.version}, "made": MADE}
                for task in self.tasks
            ]
            return httpx.Response(200, json=entries)
        if request.url.path.rpartition("/")[2] in self.broken:
            return httpx.Response(503)
        buffer = io.BytesIO()
        population(400, 0).assign(**self.facts).to_parquet(buffer)
        return httpx.Response(200, content=buffer.getvalue())


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def exporter(service, tmp_path, params):
    settings = MonitoringSettings.read({"service": "http://service", "records": tmp_path / "records", "window": 200})
    client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(service.respond))
    return Exporter(client, settings, params.validation)


def record(exporter, count, number, version="3", facts=None, **changes):
    table = population(count, number, **changes).drop(columns="group").assign(**(facts or {}))
    images = {"bit_depth": 12, "saturation": 0.0, "spread": 30.0, "focus": 1.0}
    table = table.assign(**{name: value for name, value in images.items() if name not in changes})
    path = exporter.settings.records / "binary" / f"20261124T0000{number:02}-{version}-1-{number}-1a2b3c4d.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(time=np.datetime64("2026-11-24") + np.timedelta64(number, "s")).to_parquet(path)


def newest(exporter, version, count):
    model = ServedModel("binary", "fatescope-binary", version, None, "")
    return read_newest(exporter.settings.records, model, count)


def value(exporter, name, /, **labels):
    return exporter.registry.get_sample_value(name, labels)


def drifted(exporter):
    """Return the features beyond their thresholds, of those that `record` leaves as the population draws them."""
    found = set()
    for metric in exporter.registry.collect():
        if metric.name == "fatescope_drift_statistic":
            for sample in metric.samples:
                threshold = exporter.registry.get_sample_value("fatescope_drift_threshold", sample.labels)
                name = sample.labels["statistic"]
                if sample.value > threshold and not name.endswith(("spread", "focus", "saturation")):
                    found.add(name)
    return found


@pytest.mark.slow
def test_like_cells_are_quiet_and_another_lamp_is_reported(exporter, service):
    record(exporter, 200, 1)
    exporter.evaluate()
    assert drifted(exporter) <= {"outside_background_spread"}
    assert value(exporter, "fatescope_window_cells", task="binary") == 200
    assert value(exporter, "fatescope_window_expectations_failed", task="binary", severity="critical") == 0
    assert value(exporter, "fatescope_model_made_timestamp_seconds", task="binary") == 86400
    assert (
        value(
            exporter,
            "fatescope_model_info",
            task="binary",
            name="fatescope-binary",
            version="3",
            card="http://service/card/binary",
        )
        == 1
    )
    assert time.time() - value(exporter, "fatescope_exporter_last_success_timestamp_seconds") < 60
    record(exporter, 200, 2, background=1.5, saturation=1.0)
    exporter.evaluate()
    assert {"ks_background", "outside_background"} <= drifted(exporter)
    assert service.paths.count("/reference/binary") == 1, "a reference is fetched once a version"


@pytest.mark.slow
def test_a_new_version_has_a_window_and_a_reference_of_its_own(exporter, service):
    record(exporter, 200, 1)
    exporter.evaluate()
    labels = {"task": "binary", "statistic": "mmd", "kind": "input"}
    assert value(exporter, "fatescope_drift_statistic", **labels) is not None
    service.version = "4"
    exporter.evaluate()
    assert value(exporter, "fatescope_drift_statistic", **labels) is None, "it was of the version before"
    assert value(exporter, "fatescope_window_cells", task="binary") == 0
    assert service.paths.count("/reference/binary") == 2
    gone = {"task": "binary", "name": "fatescope-binary", "version": "3", "card": "http://service/card/binary"}
    assert value(exporter, "fatescope_model_info", **gone) is None


def test_a_task_that_is_served_no_longer_leaves_no_alert_behind(exporter, service):
    record(exporter, 200, 1, background=1.5)
    exporter.evaluate()
    drift = {"task": "binary", "statistic": "ks_background", "kind": "input"}
    assert value(exporter, "fatescope_drift_statistic", **drift) > 0.5
    service.version = None
    assert exporter.evaluate() == {}
    assert value(exporter, "fatescope_drift_statistic", **drift) is None
    assert value(exporter, "fatescope_window_cells", task="binary") is None
    service.version = "3"
    exporter.evaluate()
    assert value(exporter, "fatescope_drift_statistic", **drift) > 0.5


def test_whatever_an_evaluation_raises_the_next_one_is_tried(exporter, caplog, monkeypatch):
    record(exporter, 200, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Exporter, "_publish", lambda *_: (_ for _ in ()).throw(AttributeError("a bug")))
        exporter.evaluate_or_warn()
    assert "AttributeError: a bug" in caplog.text
    assert value(exporter, "fatescope_exporter_last_success_timestamp_seconds") == 0
    exporter.evaluate_or_warn()
    assert time.time() - value(exporter, "fatescope_exporter_last_success_timestamp_seconds") < 60


def test_a_task_that_cannot_be_evaluated_leaves_the_others_watched(exporter, service, caplog):
    record(exporter, 200, 1)
    service.tasks, service.broken = ["another", "binary"], {"another"}
    exporter.evaluate_or_warn()
    assert "another: evaluation failed: Server error '503" in caplog.text
    assert value(exporter, "fatescope_window_cells", task="binary") == 200
    assert value(exporter, "fatescope_exporter_last_success_timestamp_seconds") == 0, "the evaluation was not complete"
    service.broken = set()
    exporter.evaluate_or_warn()
    assert value(exporter, "fatescope_exporter_last_success_timestamp_seconds") > 0


def test_a_cell_that_is_no_number_blinds_no_statistic(exporter):
    record(exporter, 199, 1, background=1.5)
    record(exporter, 1, 2, e0=np.nan)
    [report] = exporter.evaluate().values()
    assert report.cells == 199
    assert all(np.isfinite(finding.value) for finding in report.findings)
    assert value(exporter, "fatescope_window_not_finite", task="binary") == 1


def test_a_fact_is_judged_where_files_have_it_and_leaves_no_alarm_behind(exporter, service, caplog):
    service.facts = {"native_magnification": 20.0}
    record(exporter, 150, 1)
    record(exporter, 50, 2, facts={"native_magnification": 40.0})
    exporter.evaluate_or_warn()
    labels = {"task": "binary", "statistic": "fact_magnification", "kind": "input"}
    assert value(exporter, "fatescope_window_cells", task="binary") == 200, (
        "cells without a fact are judged by the rest"
    )
    assert value(exporter, "fatescope_window_not_finite", task="binary") == 0
    assert value(exporter, "fatescope_drift_statistic", **labels) == 1
    assert value(exporter, "fatescope_drift_threshold", **labels) < 0.5
    assert "fact_magnification (magnification 40x, known: 20x)" in caplog.text
    record(exporter, 200, 3)
    exporter.evaluate()
    assert value(exporter, "fatescope_drift_statistic", **labels) is None
    assert value(exporter, "fatescope_drift_threshold", **labels) is None
    assert value(exporter, "fatescope_drift_statistic", **labels | {"statistic": "ks_background"}) is not None


def test_a_file_that_the_service_deletes_meanwhile_is_left_out(exporter):
    record(exporter, 30, 1)
    record(exporter, 30, 2)
    folder = exporter.settings.records / "binary"
    (folder / "20261124T000003-3-1-3-1a2b3c4d.parquet").symlink_to(folder / "nowhere")
    assert len(newest(exporter, "3", 50)) == 50


def test_few_cells_are_not_evaluated(exporter):
    record(exporter, MIN_CELLS - 1, 1)
    assert exporter.evaluate() == {}
    assert value(exporter, "fatescope_window_cells", task="binary") == MIN_CELLS - 1


def test_rows_are_those_of_the_version_whatever_the_other_numbers_are(exporter):
    """The third file of a process is not of version 3."""
    record(exporter, 50, 3, version="1")
    assert newest(exporter, "3", 80).empty
    assert len(newest(exporter, "1", 80)) == 50


def test_the_newest_rows_are_taken(exporter):
    for number in (1, 2, 3):
        record(exporter, 50, number)
    record(exporter, 50, 9, version="2")
    window = newest(exporter, "3", 80)
    assert len(window) == 80
    assert (window["time"].dt.second == 3).sum() == 50
    assert (window["time"].dt.second == 2).sum() == 30


def test_a_failed_evaluation_is_logged_and_the_next_one_is_tried(exporter, caplog):
    exporter.client = httpx.Client(
        base_url="http://service", transport=httpx.MockTransport(lambda _: httpx.Response(503))
    )
    exporter.evaluate_or_warn()
    assert "evaluation failed" in caplog.text
    assert value(exporter, "fatescope_exporter_last_success_timestamp_seconds") == 0


def test_the_key_goes_to_the_service_and_not_into_the_log():
    settings = MonitoringSettings.read({"api_key": "open sesame"})
    assert connect(settings).headers["Authorization"] == "Bearer open sesame"
    assert "open sesame" not in repr(settings)
    assert "Authorization" not in connect(MonitoringSettings.read({})).headers
