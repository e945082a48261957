import io
import json
import threading
import time
from http.server import ThreadingHTTPServer

import httpx
import mlflow
import pandas as pd
import pytest

from monitoring import alert_receiver, incidents
from monitoring.settings import MonitoringSettings
from tests.support.populations import population
from tests.support.tracking import new_store

ALERT = {
    "status": "firing",
    "labels": {"alertname": "FatescopeInputDrift", "task": "binary"},
    "startsAt": "2026-11-24T05:00:00.123Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "abc123",
}
SERVED = {"task": "binary", "model": {"name": "fatescope-binary", "version": "3"}, "data_hash": "d5"}


@pytest.fixture
def message(tmp_path, monkeypatch):
    """Send a message of Alertmanager; the service has one model, and its last cells had another lamp."""
    reference = tmp_path / "reference.parquet"
    population(400, 0).to_parquet(reference)
    records = tmp_path / "records" / "binary"
    records.mkdir(parents=True)
    window = population(200, 1, background=1.5).assign(time=pd.Timestamp("2026-11-24"), version="3")
    window.to_parquet(records / "20261124T000000-3-1-0.parquet")

    def answer(request):
        known = request.url.path == "/models"
        return httpx.Response(200, json=[SERVED]) if known else httpx.Response(200, content=reference.read_bytes())

    client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    settings = MonitoringSettings.read({"records": tmp_path / "records", "window": 200})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    mlflow.set_tracking_uri(None)
    receiver = incidents.Incidents(tmp_path / "incidents", client, settings)
    yield lambda *alerts: receiver.receive({"alerts": alerts})
    mlflow.set_tracking_uri(None)


@pytest.fixture
def undrawn(monkeypatch):
    """Incidents whose window is compared with nothing and drawn by nobody, which takes a second each."""
    monkeypatch.setattr(incidents, "MIN_CELLS", 1_000_000)
    monkeypatch.setattr(incidents.incident_report, "to_html", lambda *_: "")


@pytest.mark.slow
def test_an_incident_is_complete_and_opened_once(message):
    [place] = message(ALERT)
    assert message(ALERT) == [], "a repeated alert opens nothing new"
    assert len(pd.read_parquet(place / "window.parquet")) == 200
    report = json.loads((place / "report.json").read_text())
    assert "ks_background" in report["drifted"]
    page = (place / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "ks_background" in page
    advice = (place / "README.md").read_text()
    assert "fatescope data import " in advice
    assert "`ks_background`" in advice
    about = json.loads((place / "incident.json").read_text())
    assert (about["version"], about["data_hash"], about["ended"]) == ("3", "d5", None)
    [run] = mlflow.search_runs(experiment_names=[incidents.EXPERIMENT], output_format="list")
    assert run.data.tags["incident"] == str(place)
    assert run.data.metrics["ks_background"] > 0.5
    assert message(ALERT | {"status": "resolved", "endsAt": "2026-11-24T06:00:00Z"}) == [place]
    assert json.loads((place / "incident.json").read_text())["ended"] == "2026-11-24T06:00:00Z"


OTHER = ALERT | {"fingerprint": "def456"}


def recorded():
    """Return the incidents that have runs, with the number of their files."""
    client = mlflow.MlflowClient()
    runs = mlflow.search_runs(experiment_names=[incidents.EXPERIMENT], output_format="list")
    return {run.info.run_name: len(client.list_artifacts(run.info.run_id)) for run in runs}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_incident_without_a_run_gets_it_when_the_alert_is_repeated(message, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_artifacts", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(incidents.IncidentError, match="abc123: OSError: disk full"):
            message(ALERT)
    assert message(ALERT) == [], "it was opened before"
    assert recorded() == {"2026-11-24T050000-binary-abc123": 5}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_one_incident_that_fails_keeps_no_other_from_being_opened(message):
    gone = ALERT | {"labels": ALERT["labels"] | {"task": "gone"}}
    with pytest.raises(incidents.IncidentError, match="no model of the task gone"):
        message(gone, ALERT)
    [place] = message(OTHER)
    assert sorted(path.name.rpartition("-")[2] for path in place.parent.iterdir()) == ["abc123", "def456"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_damaged_incident_is_opened_again_or_ended(message):
    [place] = message(ALERT)
    (place / "incident.json").write_text('{"alert": ')
    assert message(ALERT | {"status": "resolved", "endsAt": "2026-11-24T06:00:00Z"}) == [place]
    about = json.loads((place / "incident.json").read_text())
    assert (about["task"], about["ended"]) == ("binary", "2026-11-24T06:00:00Z")
    (place / "incident.json").write_text("")
    (place.parent / f"{place.name}.part").mkdir()
    assert message(ALERT) == [place]
    assert json.loads((place / "incident.json").read_text())["ended"] is None
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_deleted_experiment_is_restored(message):
    message(ALERT)
    client = mlflow.MlflowClient()
    client.delete_experiment(client.get_experiment_by_name(incidents.EXPERIMENT).experiment_id)
    message(OTHER)
    assert len(recorded()) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_malformed_alert_is_dropped_and_keeps_no_other_from_being_opened(message, caplog):
    malformed = [{name: value for name, value in ALERT.items() if name != left_out} for left_out in ALERT]
    malformed += [ALERT | {"startsAt": 1}, ALERT | {"labels": {"alertname": incidents.ALERT}}, "alert", None]
    [place] = message(*malformed, OTHER)
    assert place.name.endswith("def456")
    assert caplog.text.count("a malformed alert is dropped") == len(malformed)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_incident_that_was_written_anew_gets_a_run(message, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_artifacts", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(incidents.IncidentError):
            message(ALERT)
    [place] = (tmp_path / "incidents").iterdir()
    (place / "incident.json").write_text("")
    message(ALERT | {"status": "resolved"})
    assert message(ALERT) == []
    assert recorded() == {place.name: 5}


def test_other_alerts_and_names_that_lead_elsewhere_open_nothing(message, tmp_path):
    assert message(ALERT | {"labels": {"alertname": "FatescopeDown"}}) == []
    assert message(ALERT | {"status": "resolved", "fingerprint": "../../x"}) == []
    assert not (tmp_path / "incidents").exists()


@pytest.mark.parametrize("cells", [incidents.MIN_CELLS - 1, incidents.MIN_CELLS])
def test_too_few_cells_are_compared_with_nothing(message, monkeypatch, cells):
    monkeypatch.setattr(incidents, "_log_to_mlflow", lambda _: None)
    window = population(cells, 1, background=1.5)
    monkeypatch.setattr(incidents, "read_newest", lambda *_: window)
    [place] = message(ALERT)
    report = json.loads((place / "report.json").read_text())
    assert report["cells"] == len(pd.read_parquet(place / "window.parquet")) == cells
    assert bool(report["findings"]) == bool(report["drifted"]) == (cells == incidents.MIN_CELLS)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("damaged", ["[]", '"text"', "{", ""])
def test_an_incident_whose_file_holds_no_object_is_opened_again(message, monkeypatch, damaged):
    monkeypatch.setattr(incidents, "_log_to_mlflow", lambda _: None)
    [place] = message(ALERT)
    assert message(ALERT) == []
    for name in incidents.DESCRIBED:
        (place / name).write_text(damaged)
        assert message(ALERT) == [place], name


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"alerts": []}', 200),
        (b"{}", 200),
        (json.dumps({"alerts": [ALERT]}).encode(), 503),
        (b"", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b'"alerts"', 400),
        (b"null", 400),
        (b'{"alerts": 1}', 400),
        (b'{"alerts": []}'.ljust(1_000_000), 200),
        (b'{"alerts": []' + b"}".rjust(1_000_000 - 13), 200),
        (b'{"alerts": []' + b"}".rjust(1_000_001 - 13), 400),
    ],
    ids=["none", "no alerts", "fails", "empty", "no text", "list", "text", "null", "number", "blanks", "most", "more"],
)
def test_a_message_is_answered_by_what_became_of_it(tmp_path, body, status):
    def answer(_):
        raise httpx.ConnectError("away")

    client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    receiver = incidents.Incidents(tmp_path / "incidents", client, MonitoringSettings.read({}))
    handler = alert_receiver.make_handler(receiver.receive)
    request = handler.__new__(handler)
    request.rfile, request.headers = io.BytesIO(body), {"Content-Length": str(len(body))}
    answered = []
    request.send_response, request.end_headers = answered.append, lambda: None
    request.do_POST()
    assert answered == [status]
    assert request.rfile.tell() == min(len(body), 1_000_000), "no more is taken into memory"
    for length in ("-1", "many"):
        request.rfile, request.headers = io.BytesIO(body), {"Content-Length": length}
        request.do_POST()
        assert (answered[-1], request.rfile.tell()) == (400, 0)


def outcomes():
    return [(name, alert_receiver.MESSAGES.labels(name)._value.get()) for name in ("handled", "refused", "failed")]


def test_other_messages_are_refused_and_a_message_that_fails_is_sent_again():
    def receive(content):
        if content == {"away": True}:
            raise httpx.ConnectError("away")
        if content == {"later": True}:
            raise incidents.IncidentError("later")
        content["alerts"]

    server = ThreadingHTTPServer(("127.0.0.1", 0), alert_receiver.make_handler(receive))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    assert httpx.post(url, json={"alerts": []}).status_code == 200
    assert httpx.post(url, content=b"no json").status_code == 400
    assert httpx.post(url, json={"none": 1}).status_code == 400
    assert httpx.post(url, json={"away": True}).status_code == 503
    before = dict(outcomes())
    assert httpx.post(url, json={"later": True}).status_code == 503
    published = httpx.get(f"{url}metrics").raise_for_status().text
    server.shutdown()
    server.server_close()
    assert {name: count - before[name] for name, count in outcomes()} == {"handled": 0, "refused": 0, "failed": 1}
    assert 'fatescope_incidents_messages_total{outcome="failed"}' in published
    assert time.time() - alert_receiver.SUCCESS._value.get() < 60
