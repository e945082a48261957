"""Time, energy and cost of a thousand cells, with a model that counts and a machine that the test turns."""

import numpy as np
import pytest

from fatescope.energy import EnergyMeter
from pipelines.reporting import running_cost
from pipelines.settings import PipelineSettings


class Model:
    def __init__(self):
        self.batches = []

    def predict(self, pixels, *, maps):
        assert not maps
        self.batches.append(len(pixels))


def settings(**prices):
    return PipelineSettings(price_per_hour=prices.get("hour"), price_per_kwh=prices.get("kwh"))


@pytest.fixture
def pixels():
    return np.zeros((100, 2, 2), np.uint16)


def test_energy_and_time_are_those_of_a_thousand_cells(pixels, monkeypatch):
    # 36 joules and a quarter of a second from one reading to the next.
    joules = iter([0.0, 100.0, 136.0])
    meter = EnergyMeter(lambda: {"intel-rapl:0": (next(joules), 1e6)}, dict)
    clock = iter([1.0, 1.25])
    monkeypatch.setattr(running_cost.time, "perf_counter", lambda: next(clock))
    model = Model()
    cost = running_cost.measure(model, pixels, 2, settings(hour=3.6, kwh=0.5), meter)
    assert model.batches == [64, 36, 64, 36]  # to warm up, and to measure
    assert (cost.cells, cost.threads) == (100, 2)
    assert cost.seconds == pytest.approx(2.5)
    assert cost.energy_wh == pytest.approx(0.1)
    assert cost.cost == pytest.approx(3.6 * 2.5 / 3600 + 0.5 * 0.1 / 1000)


def test_nothing_is_made_up_for_what_cannot_be_read_or_has_no_price(pixels):
    unread = EnergyMeter(dict, dict)
    for prices, known in (({}, False), ({"hour": 2.0}, True), ({"kwh": 0.5}, False), ({"hour": 2, "kwh": 0.5}, False)):
        cost = running_cost.measure(Model(), pixels, 1, settings(**prices), unread)
        assert cost.energy_wh is None
        assert (cost.cost is not None) is known


def test_prices_are_settings(monkeypatch):
    monkeypatch.setenv("FATESCOPE_PRICE_PER_HOUR", "0.4")
    monkeypatch.setenv("FATESCOPE_PRICE_PER_KWH", "")
    assert (PipelineSettings().price_per_hour, PipelineSettings().price_per_kwh) == (0.4, None)
