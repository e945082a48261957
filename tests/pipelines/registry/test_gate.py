import numpy as np
import pytest

from pipelines.registry import gate
from pipelines.registry.gate import Both

FIGURES = {
    "balanced_accuracy": 0.8,
    "intervals": {"balanced_accuracy": [0.7, 0.9]},
    "calibration": {"after": {"ece": 0.05}},
}


@pytest.fixture
def settings(make_params):
    return lambda **changes: make_params({f"gate.{k}": v for k, v in changes.items()}).gate


def metrics(verdict="clean", **changes):
    pairs = [{"classes": ["a", "b"], "verdict": verdict}]
    return {
        "classes": ["a", "b"],
        "splits": {"grouped": FIGURES | changes},
        "audit": {"verdict": verdict, "pairs": pairs},
    }


def both(rng, before, after, *, cells=600, groups=12, spread=0.0, costs=(1.0, 1.0)):
    """Two models that are right about a share of cells; `spread` is how much that differs between groups."""
    targets = np.arange(cells) % 2
    group = np.array([f"{'ab'[t]}{i % groups}" for i, t in enumerate(targets)])
    shift = {name: rng.normal(0, spread) for name in np.unique(group)}

    def says(share):
        right = rng.random(cells) < share + np.array([shift[name] for name in group])
        called = np.where(right, targets, 1 - targets)
        return np.eye(2)[called] * 0.8 + 0.1

    return Both("1", targets, group, says(before), says(after), *costs)


def test_a_first_version_meets_the_absolute_criteria(settings):
    criteria = gate.decide("binary", metrics(), None, None, settings())
    assert list(criteria) == ["reproduces", "audit", "informative", "calibration"]
    assert all(each["holds"] for each in criteria.values())


def test_a_champion_that_cannot_be_compared_with_is_not_replaced(settings):
    criteria = gate.decide("binary", metrics(), None, "version 3 could not be compared with: no cells", settings())
    assert not criteria["better"]["holds"]
    assert "no cells" in criteria["better"]["detail"]


@pytest.mark.parametrize(
    ("name", "changes", "damage", "detail"),
    [
        ("reproduces", {}, "logits differ by 3", "logits differ by 3"),
        ("audit", {"verdict": "shortcut"}, None, "shortcut: acquisition alone tells a / b; who answers for it signs"),
        ("audit", {"verdict": "unknown"}, None, "nothing was audited"),
        ("informative", {"intervals": {"balanced_accuracy": [0.45, 0.9]}}, None, "at least 0.450; chance is 0.500"),
        ("calibration", {"calibration": {"after": {"ece": 0.3}}}, None, "0.300; at most 0.100"),
    ],
)
def test_each_criterion_can_refuse(settings, name, changes, damage, detail):
    criteria = gate.decide("binary", metrics(**changes), damage, None, settings())
    assert [key for key, each in criteria.items() if not each["holds"]] == [name]
    assert detail in criteria[name]["detail"]


def test_a_person_may_answer_for_a_shortcut(settings):
    signed = settings(signed_off={"binary": {"name": "Ada Example", "reason": "one lamp for all media since May"}})
    criterion = gate.decide("binary", metrics("shortcut"), None, None, signed)["audit"]
    assert criterion["holds"]
    assert "signed off by Ada Example: one lamp for all media since May" in criterion["detail"]
    assert not gate.decide("multiclass", metrics("shortcut"), None, None, signed)["audit"]["holds"]


def test_a_better_model_passes_and_a_worse_one_does_not(rng, settings):
    assert gate.better(both(rng, 0.7, 0.85), settings())["holds"]
    worse = gate.better(both(rng, 0.85, 0.7), settings())
    assert not worse["holds"]
    assert worse["value"] < -0.05
    assert "of version 1 on the same 600 cells" in worse["detail"]


def test_what_was_drawn_is_said(rng, settings):
    """One group a class leaves nothing to draw but cells, whatever the split."""
    assert "by drawing groups);" in gate.better(both(rng, 0.7, 0.85), settings())["detail"]
    alone = both(rng, 0.7, 0.85)
    one_each = Both(**(vars(alone) | {"groups": alone.targets.astype(str)}))
    assert "by drawing cells, which is rough);" in gate.better(one_each, settings())["detail"]


def test_the_same_model_is_not_better_than_itself(rng, settings):
    one = both(rng, 0.8, 0.8)
    same = Both("1", one.targets, one.groups, one.before, one.before, 1.0, 1.0)
    assert not gate.better(same, settings())["holds"]


def test_chance_alone_seldom_passes(rng, settings):
    passed = [gate.better(both(rng, 0.8, 0.8), settings(repeats=200))["holds"] for _ in range(60)]
    assert sum(passed) <= 8  # one in twenty is what a one-sided 95 % lets through


def test_a_cheaper_model_may_be_no_worse(rng, settings):
    asked = settings(accept="not_worse_and_cheaper", margin=0.05)
    one = both(rng, 0.8, 0.8, costs=(10.0, 4.0))
    same = Both("1", one.targets, one.groups, one.before, one.before, 10.0, 4.0)
    found = gate.better(same, asked)
    assert found["holds"]
    assert "at 0.40 of the cost" in found["detail"]
    assert not gate.better(Both(**(vars(same) | {"cost_after": 10.0})), asked)["holds"]
    assert not gate.better(both(rng, 0.9, 0.75, costs=(10.0, 4.0)), asked)["holds"]


def test_a_group_that_falls_refuses(rng, settings):
    one = both(rng, 0.9, 0.9, cells=1200, groups=12)
    after = one.before.copy()
    fallen = one.groups == "a0"
    after[fallen] = after[fallen][:, ::-1]
    changed = Both("1", one.targets, one.groups, one.before, after, 1.0, 1.0)
    found = gate.groups(changed, settings(min_group_cells=30))
    assert not found["holds"]
    assert found["group"] == "a0"
    small = gate.groups(changed, settings(min_group_cells=5000))
    assert small["holds"]
    assert "no group has 5000 cells" in small["detail"]
