import pytest

from pipelines.training.cost import Meter, add_costs, fit_cost


def counter(folder, name, joules, highest=1000.0):
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "energy_uj").write_text(str(int(joules * 1e6)))
    (path / "max_energy_range_uj").write_text(str(int(highest * 1e6)))


def test_energy_is_that_of_all_packages_and_may_wrap(tmp_path):
    counter(tmp_path, "intel-rapl:0", 900)
    counter(tmp_path, "intel-rapl:1", 10)
    counter(tmp_path, "intel-rapl:0:0", 1)  # a part of package 0
    meter = Meter(tmp_path)
    counter(tmp_path, "intel-rapl:0", 60)
    counter(tmp_path, "intel-rapl:1", 210)
    counter(tmp_path, "intel-rapl:0:0", 500)
    assert meter.watt_hours() == pytest.approx((160 + 200) / 3600)


def test_without_a_counter_energy_is_missing(tmp_path):
    cost = fit_cost(Meter(tmp_path))
    assert set(cost) == {"fit_seconds"}
    assert cost["fit_seconds"] >= 0


def test_costs_add_up_where_all_are_known():
    assert add_costs({"fit_seconds": 1.0, "energy_wh": 2.0}, {"fit_seconds": 3.0}) == {"fit_seconds": 4.0}
    both = add_costs({"fit_seconds": 1.0, "energy_wh": 2.0}, {"fit_seconds": 3.0, "energy_wh": 1.0})
    assert both == {"fit_seconds": 4.0, "energy_wh": 3.0}
