import dataclasses
from typing import get_args

import numpy as np
import pytest

from fatescope.config import Signable
from pipelines.evaluation.audit_report import AuditSummary, PairSummary
from pipelines.evaluation.metrics_report import Metrics
from pipelines.registry import gate
from pipelines.registry.gate import Champion, NoComparison
from pipelines.registry.paired import PairedPredictions
from tests.support import reports

NONE_YET = NoComparison("no champion yet", None)


@pytest.fixture
def settings(make_params):
    return lambda **changes: make_params({f"gate.{k}": v for k, v in changes.items()}).gate


BASELINES = {"acquisition": 0.55, "cell_figures": 0.7}


def metrics(verdict="clean", *, lowest=0.7, error=0.05, scheme="grouped", baselines=BASELINES):
    """Return metrics of two classes; `lowest` is the lower end of the interval of the balanced accuracy."""
    report = Metrics.read(reports.METRICS)
    served = report.schemes["grouped"]
    after = served.calibration.after.model_copy(update={"ece": error})
    changed = served.model_copy(
        update={
            "balanced_accuracy": 0.8,
            "intervals": {"balanced_accuracy": [lowest, 0.9]},
            "baselines": baselines,
            "calibration": served.calibration.model_copy(update={"after": after}),
        }
    )
    accused = PairSummary.model_construct(
        classes=["a", "b"], verdict=verdict, verdict_normalised=verdict, confounded=False
    )
    audit = AuditSummary(verdict=verdict, pairs=[] if verdict == "unknown" else [accused])
    return report.model_copy(update={"classes": ["a", "b"], "schemes": {scheme: changed}, "audit": audit})


def paired(rng, before, after, *, cells=600, groups=12, spread=0.0, costs=(1.0, 1.0)):
    """Return the predictions of two models of given accuracies; `spread` is how much these differ between groups."""
    targets = np.arange(cells) % 2
    group = np.array([f"{'ab'[t]}{i % groups}" for i, t in enumerate(targets)])
    shift = {name: rng.normal(0, spread) for name in np.unique(group)}

    def predict(accuracy):
        correct = rng.random(cells) < accuracy + np.array([shift[name] for name in group])
        predicted = np.where(correct, targets, 1 - targets)
        return np.eye(2)[predicted] * 0.8 + 0.1

    return PairedPredictions(
        np.arange(cells), ["a", "b"], targets, group, predict(before), predict(after), *map(float, costs)
    )


def better(predictions, params):
    return gate.better(Champion("1", predictions), params)


def test_a_first_version_meets_the_absolute_criteria(settings):
    criteria = gate.decide("binary", metrics(), None, NONE_YET, settings())
    assert list(criteria) == ["reproduces", "audit", "grouped", "informative", "baselines", "calibration"]
    assert all(criterion.holds for criterion in criteria.values())


def test_a_champion_that_cannot_be_compared_with_is_not_replaced(settings):
    reason = NoComparison("version 3 could not be compared with: no cells", "3")
    criteria = gate.decide("binary", metrics(), None, reason, settings())
    assert not criteria["better"].holds
    assert "no cells" in criteria["better"].detail


@pytest.mark.parametrize(
    ("name", "changes", "damage", "detail"),
    [
        ("reproduces", {}, "logits differ by 3", "logits differ by 3"),
        (
            "audit",
            {"verdict": "shortcut"},
            None,
            "acquisition alone tells apart a / b; to accept this, enter",
        ),
        ("audit", {"verdict": "unknown"}, None, "unknown: no pair of classes was audited"),
        ("informative", {"lowest": 0.45}, None, "at least 0.450; chance is 0.500"),
        ("grouped", {"scheme": "random"}, None, "some class has too few acquisition groups"),
        (
            "baselines",
            {"baselines": {"acquisition": 0.55, "cell_figures": 0.81}},
            None,
            "0.800; descriptions of the acquisition alone reach 0.550 and simple features of the cell reach 0.810; to",
        ),
        ("baselines", {"baselines": {"acquisition": 0.8, "cell_figures": 0.6}}, None, "alone reach 0.800"),
        ("baselines", {"baselines": {}}, None, "the audit does not say what acquisition and simple features reach"),
        ("calibration", {"error": 0.3}, None, "error 0.300, at most 0.100 allowed"),
    ],
)
def test_each_criterion_can_refuse(settings, name, changes, damage, detail):
    criteria = gate.decide("binary", metrics(**changes), damage, NONE_YET, settings())
    assert [key for key, criterion in criteria.items() if not criterion.holds] == [name]
    assert detail in criteria[name].detail


def test_a_person_may_answer_for_a_shortcut(settings):
    signed = settings(signed_off={"binary": {"name": "Ada Example", "reason": "one lamp for all media since May"}})
    criterion = gate.decide("binary", metrics("shortcut"), None, NONE_YET, signed)["audit"]
    assert criterion.holds
    assert "signed off by Ada Example: one lamp for all media since May" in criterion.detail
    assert not gate.decide("multiclass", metrics("shortcut"), None, NONE_YET, signed)["audit"].holds
    assert not gate.decide("binary", metrics(scheme="random"), None, NONE_YET, signed)["grouped"].holds


@pytest.mark.parametrize("name", get_args(Signable))
def test_a_person_answers_for_what_the_signature_names_and_for_nothing_else(settings, name):
    signature = {"name": "Ada Example", "reason": "one plate", "criteria": [name]}
    signed = settings(signed_off={"binary": signature})
    unfounded = metrics("shortcut", lowest=0.4, error=0.3, scheme="random", baselines={})
    champion = NoComparison("version 3, the champion, cannot be compared with: it is damaged", "3")
    criteria = gate.decide("binary", unfounded, "logits differ by 3", champion, signed)
    assert [key for key, criterion in criteria.items() if criterion.holds] == [name]
    assert criteria[name].detail.endswith("; signed off by Ada Example: one plate")


def test_a_better_model_passes_and_a_worse_one_does_not(rng, settings):
    assert better(paired(rng, 0.7, 0.85), settings()).holds
    worse = better(paired(rng, 0.85, 0.7), settings())
    assert not worse.holds
    assert worse.value < -0.05
    assert "of version 1 on the same 600 cells" in worse.detail


def test_the_detail_names_what_was_resampled(rng, settings):
    """With one group a class only cells can be resampled, whatever the scheme."""
    assert "resampling groups);" in better(paired(rng, 0.7, 0.85), settings()).detail
    predictions = paired(rng, 0.7, 0.85)
    one_each = dataclasses.replace(predictions, groups=predictions.targets.astype(str))
    assert "resampling cells; with so few groups this is rough);" in better(one_each, settings()).detail


def test_the_same_model_is_not_better_than_itself(rng, settings):
    predictions = paired(rng, 0.8, 0.8)
    assert not better(dataclasses.replace(predictions, after=predictions.before), settings()).holds


@pytest.mark.slow
def test_chance_alone_seldom_passes(rng, settings):
    passed = [better(paired(rng, 0.8, 0.8), settings(repeats=200)).holds for _ in range(60)]
    assert sum(passed) <= 8  # one in twenty is what a one-sided 95 % lets through


def test_a_cheaper_model_may_be_no_worse(rng, settings):
    accepted = settings(accept="not_worse_and_cheaper", margin=0.05)
    predictions = paired(rng, 0.8, 0.8, costs=(10.0, 4.0))
    same = dataclasses.replace(predictions, after=predictions.before)
    criterion = better(same, accepted)
    assert criterion.holds
    assert "must be at least -0.050, at 0.40 of the cost" in criterion.detail
    assert not better(dataclasses.replace(same, cost_after=10.0), accepted).holds
    assert not better(paired(rng, 0.9, 0.75, costs=(10.0, 4.0)), accepted).holds


def test_a_group_that_loses_much_refuses(rng, settings):
    predictions = paired(rng, 0.9, 0.9, cells=1200, groups=12)
    after = predictions.before.copy()
    lost = predictions.groups == "a0"
    after[lost] = after[lost][:, ::-1]
    changed = dataclasses.replace(predictions, after=after)
    criterion = gate.groups(changed, settings(min_group_cells=30))
    assert not criterion.holds
    assert criterion.group == "a0"
    small = gate.groups(changed, settings(min_group_cells=5000))
    assert small.holds
    assert "no group has 5000 cells" in small.detail
