import pytest
from scipy import stats

from fatescope.inference import student


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 4, 10, 200])
def test_tails_and_quantiles_are_those_of_scipy(freedom):
    for t in (0.0, 1e-6, 0.3, 1.0, 2.776, 12.0, 1e4):
        assert student.tails(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9, abs=1e-300)
        assert student.tails(-t, freedom) == student.tails(t, freedom)
    for level in (0.5, 0.9, 0.95, 0.999):
        assert student.quantile(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


def test_nothing_is_beyond_an_infinite_value():
    assert student.tails(float("inf"), 3) == 0


@pytest.mark.parametrize("freedom", [1, 4.3, 1600.0])
def test_a_quantile_takes_few_steps(freedom, monkeypatch):
    calls, tails = [], student.tails
    monkeypatch.setattr(student, "tails", lambda *call: calls.append(call) or tails(*call))
    student.quantile(freedom, 0.95)
    assert len(calls) < 15
