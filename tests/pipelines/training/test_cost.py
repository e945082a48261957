import pytest

from pipelines.training.cost import FitCost, Meter


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
    assert meter.cost().energy_wh == pytest.approx((160 + 200) / 3600)


def test_without_a_counter_energy_is_missing(tmp_path):
    cost = Meter(tmp_path).cost()
    assert set(cost.as_fields()) == {"fit_seconds"}
    assert cost.seconds >= 0


def test_energy_of_several_fits_is_known_where_that_of_all_is():
    assert FitCost(1.0, 2.0) + FitCost(3.0, None) == FitCost(4.0, None)
    assert (FitCost(1.0, 2.0) + FitCost(3.0, 1.0)).as_fields() == {"fit_seconds": 4.0, "energy_wh": 3.0}
