import io
import time

import httpx
import numpy as np
import pytest

from monitoring.drift import FEWEST
from monitoring.exporter import Exporter, newest
from tests.support.populations import population


@pytest.fixture
def exporter(tmp_path, params):
    """An exporter of a service with one model, version 3, whose reference is known."""
    made = Exporter("http://service", tmp_path / "records", 200, params.validation)
    asked = []

    def answer(request):
        asked.append(request.url.path)
        if request.url.path == "/models":
            return httpx.Response(
                200,
                json=[
                    {
                        "task": "binary",
                        "model": {"name": "fatescope-binary", "version": made.now},
                        "made": "1970-01-02T00:00:00Z",
                    }
                ],
            )
        buffer = io.BytesIO()
        population(400, 0).to_parquet(buffer)
        return httpx.Response(200, content=buffer.getvalue())

    made.now, made.asked = "3", asked
    made._client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    return made


def record(exporter, count, number, version="3", **changes):
    table = population(count, number, **changes).drop(columns="group")
    images = {"bit_depth": 12, "saturation": 0.0, "spread": 30.0, "focus": 1.0}
    table = table.assign(**{name: value for name, value in images.items() if name not in changes})
    path = exporter.records / "binary" / f"20261124T0000{number:02}-{version}-1-{number}-1a2b3c4d.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(time=np.datetime64("2026-11-24") + np.timedelta64(number, "s")).to_parquet(path)


def value(exporter, name, /, **labels):
    return exporter.registry.get_sample_value(name, labels)


def drifted(exporter):
    """Return the figures beyond their thresholds, of those that `record` leaves as the population draws them."""
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
def test_like_cells_are_quiet_and_a_lamp_is_told(exporter):
    record(exporter, 200, 1)
    exporter.look()
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
    exporter.look()
    assert {"ks_background", "outside_background"} <= drifted(exporter)
    assert exporter.asked.count("/reference/binary") == 1, "a reference is fetched once a version"


@pytest.mark.slow
def test_a_new_version_has_a_window_and_a_reference_of_its_own(exporter):
    record(exporter, 200, 1)
    exporter.look()
    told = {"task": "binary", "statistic": "mmd", "kind": "input"}
    assert value(exporter, "fatescope_drift_statistic", **told) is not None
    exporter.now = "4"
    exporter.look()
    assert value(exporter, "fatescope_drift_statistic", **told) is None, "it was of the version before"
    assert value(exporter, "fatescope_window_cells", task="binary") == 0
    assert exporter.asked.count("/reference/binary") == 2
    gone = {"task": "binary", "name": "fatescope-binary", "version": "3", "card": "http://service/card/binary"}
    assert value(exporter, "fatescope_model_info", **gone) is None


def test_few_cells_are_not_judged(exporter):
    record(exporter, FEWEST - 1, 1)
    assert exporter.look() == {}
    assert value(exporter, "fatescope_window_cells", task="binary") == FEWEST - 1


def test_rows_are_those_of_the_version_whatever_the_other_numbers_are(exporter):
    """The third file of a process is not of version 3."""
    record(exporter, 50, 3, version="1")
    assert newest(exporter.records / "binary", "3", 80).empty
    assert len(newest(exporter.records / "binary", "1", 80)) == 50


def test_the_newest_rows_are_taken(exporter):
    for number in (1, 2, 3):
        record(exporter, 50, number)
    record(exporter, 50, 9, version="2")
    window = newest(exporter.records / "binary", "3", 80)
    assert len(window) == 80
    assert (window["time"].dt.second == 3).sum() == 50
    assert (window["time"].dt.second == 2).sum() == 30
