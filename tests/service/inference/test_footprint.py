"""Processor time and energy of the service, by clocks and counters that the test turns."""

import pytest
from prometheus_client import REGISTRY

from fatescope.energy import EnergyMeter
from service.inference import footprint
from service.inference.footprint import Footprint


class Machine:
    """Two processor packages, one GPU, and the processor time of the machine and of a process."""

    def __init__(self):
        self.packages, self.devices = {"intel-rapl:0": (100.0, 1000.0), "intel-rapl:1": (990.0, 1000.0)}, {"0": 5.0}
        self.busy, self.own = 50.0, 2.0

    def meter(self):
        return EnergyMeter(lambda: dict(self.packages), lambda: dict(self.devices))


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_process_has_the_share_of_the_energy_that_it_has_of_the_processor_time():
    machine = Machine()
    process = Footprint(machine.meter(), lambda: machine.busy, lambda: machine.own)
    names = [("fatescope_processor_seconds_total", {}), ("fatescope_energy_joules_total", {"source": "processor"}),
             ("fatescope_energy_joules_total", {"source": "gpu"})]  # fmt: skip
    before = [value(name, **labels) for name, labels in names]
    # The second counter has started again: 10 joules to its highest value, and 30 from there.
    machine.packages = {"intel-rapl:0": (140.0, 1000.0), "intel-rapl:1": (30.0, 1000.0)}
    machine.busy, machine.own, machine.devices = 60.0, 4.5, {"0": 12.0}
    process.update()
    taken = [value(name, **labels) - start for (name, labels), start in zip(names, before, strict=True)]
    assert taken == pytest.approx([2.5, 0.25 * 80, 7.0])


def test_nothing_is_made_up_where_no_counter_can_be_read():
    process = Footprint(EnergyMeter(dict, dict), lambda: None, iter([1.0, 3.0]).__next__)
    before = value("fatescope_energy_joules_total", source="processor")
    process.update()
    assert value("fatescope_energy_joules_total", source="processor") == before
    assert EnergyMeter(dict, dict).spent() == {}


def test_the_processor_time_of_the_machine_leaves_out_idling(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint.os, "sysconf", {"SC_CLK_TCK": 100}.get)
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 80 99999 5000 3 7 11 0 0\ncpu0 1 2 3 4\n")
    assert footprint.busy_seconds(stat) == pytest.approx(2.10)
    assert footprint.busy_seconds(tmp_path / "absent") is None


def test_prices_are_published_where_they_are_set():
    footprint.publish_prices(None, 0.31)
    assert REGISTRY.get_sample_value("fatescope_price", {"per": "kwh"}) == 0.31
    assert REGISTRY.get_sample_value("fatescope_price", {"per": "hour"}) is None
