import json
import threading
from http.server import ThreadingHTTPServer

import httpx
import mlflow
import pandas as pd
import pytest

from monitoring import incidents
from monitoring.settings import MonitoringSettings
from tests.support.populations import population

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
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    receiver = incidents.Incidents(tmp_path / "incidents", client, settings)
    yield lambda *alerts: receiver.receive({"alerts": alerts})
    mlflow.set_tracking_uri(None)


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
    assert "make adopt SRC=" in advice
    assert "`ks_background`" in advice
    about = json.loads((place / "incident.json").read_text())
    assert (about["version"], about["data_hash"], about["ended"]) == ("3", "d5", None)
    [run] = mlflow.search_runs(experiment_names=[incidents.EXPERIMENT], output_format="list")
    assert run.data.tags["incident"] == str(place)
    assert run.data.metrics["ks_background"] > 0.5
    assert message(ALERT | {"status": "resolved", "endsAt": "2026-11-24T06:00:00Z"}) == [place]
    assert json.loads((place / "incident.json").read_text())["ended"] == "2026-11-24T06:00:00Z"


def test_other_alerts_and_names_that_lead_elsewhere_open_nothing(message, tmp_path):
    assert message(ALERT | {"labels": {"alertname": "FatescopeDown"}}) == []
    assert message(ALERT | {"status": "resolved", "fingerprint": "../../x"}) == []
    assert not (tmp_path / "incidents").exists()


def test_other_messages_are_refused_and_a_message_that_fails_is_sent_again():
    def receive(content):
        if content == {"away": True}:
            raise httpx.ConnectError("away")
        content["alerts"]

    server = ThreadingHTTPServer(("127.0.0.1", 0), incidents.make_handler(receive))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    assert httpx.post(url, json={"alerts": []}).status_code == 200
    assert httpx.post(url, content=b"no json").status_code == 400
    assert httpx.post(url, json={"none": 1}).status_code == 400
    assert httpx.post(url, json={"away": True}).status_code == 503
    server.shutdown()
    server.server_close()
