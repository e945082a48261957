import dataclasses
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from fatescope.config import Signable
from pipelines.evaluation.audit_report import AuditSummary, PairSummary
from pipelines.evaluation.metrics_report import LowerBound, Metrics
from pipelines.registry import difference, gate
from pipelines.registry.gate import Champion, NoComparison
from pipelines.registry.paired import PairedPredictions
from pipelines.registry.protocol import RULES
from tests.support import reports

NONE_YET = NoComparison("no champion yet", None)


@pytest.fixture
def settings(make_params):
    return lambda **changes: make_params({f"gate.{k}": v for k, v in changes.items()}).gate


BASELINES = {"acquisition": 0.55, "cell_figures": 0.7}


def metrics(verdict="clean", *, lowest=0.7, error=0.05, units="groups", scheme="grouped", baselines=BASELINES):
    """Return metrics of two classes; `lowest` is the lower bound of the balanced accuracy, by `units`."""
    report = Metrics.read(reports.METRICS)
    served = report.schemes["grouped"]
    after = served.calibration.after.model_copy(update={"ece": 0.4, "debiased": error})
    changed = served.model_copy(
        update={
            "balanced_accuracy": 0.8,
            "baselines": baselines,
            "intervals": {"balanced_accuracy": None},
            "no_interval": {"balanced_accuracy": "2 acquisition groups of class a; three are needed"},
            "lower_bound": LowerBound(value=lowest, units=units),
            "calibration": served.calibration.model_copy(update={"after": after}),
        }
    )
    accused = PairSummary.model_construct(
        classes=["a", "b"], verdict=verdict, verdict_normalised=verdict, confounded=False
    )
    audit = AuditSummary(verdict=verdict, pairs=[] if verdict == "unknown" else [accused])
    return report.model_copy(update={"classes": ["a", "b"], "schemes": {scheme: changed}, "audit": audit})


def test_a_report_of_before_is_judged_by_its_plain_calibration_error(settings):
    report = metrics(error=None)
    assert report.schemes["grouped"].calibration.after.debiased is None
    assert not gate.decide("binary", report, None, NONE_YET, settings())["calibration"].holds


def test_the_protocol_has_each_criterion_and_no_other(settings, rng):
    with_champion = Champion("3", paired(rng, 0.8, 0.9))
    asked = set()
    for champion in (NONE_YET, with_champion, NoComparison("it does not run", "3")):
        asked |= gate.decide("binary", metrics(), None, champion, settings()).keys()
    assert asked == RULES.keys()


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
    assert list(criteria) == ["reproduces", "audit", "grouped", "informative", "baselines", "replicates", "calibration"]
    assert all(criterion.holds for criterion in criteria.values())


def test_a_champion_that_cannot_be_compared_with_is_not_replaced(settings):
    reason = NoComparison("version 3 could not be compared with: no cells", "3")
    criteria = gate.decide("binary", metrics(), None, reason, settings())
    assert not criteria["comparable"].holds
    assert "no cells" in criteria["comparable"].detail


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
        ("grouped", {"scheme": "random", "units": "cells"}, None, "some class has too few acquisition groups"),
        (
            "baselines",
            {"baselines": {"acquisition": 0.55, "cell_figures": 0.81}},
            None,
            "0.800; descriptions of the acquisition alone reach 0.550 and simple features of the cell reach 0.810; to",
        ),
        ("baselines", {"baselines": {"acquisition": 0.8, "cell_figures": 0.6}}, None, "alone reach 0.800"),
        ("baselines", {"baselines": {"acquisition": 0.55, "other": 0.5}}, None, "the audit does not say what"),
        ("baselines", {"baselines": {}}, None, "the audit does not say what acquisition and simple features reach"),
        ("replicates", {"units": "cells"}, None, "some class has 1 test group, and 2 are needed"),
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
    unfounded = metrics("shortcut", lowest=0.4, error=0.3, units="cells", scheme="random", baselines={})
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


def test_the_difference_is_tested_by_group_and_the_detail_says_how(rng, settings):
    """Against the t test of group means; six groups of each class have ten degrees of freedom."""
    predictions = paired(rng, 0.7, 0.85, cells=1200, spread=0.05)
    criterion = better(predictions, settings())
    gains = [
        np.mean((predictions.after.argmax(1) == t)[rows]) - np.mean((predictions.before.argmax(1) == t)[rows])
        for name in np.unique(predictions.groups)
        for rows in [predictions.groups == name]
        for t in [predictions.targets[rows][0]]
    ]
    by_class = np.reshape(gains, (2, 6))
    error = np.sqrt((by_class.var(axis=1, ddof=1) / 6).sum()) / 2
    assert criterion.value == pytest.approx(np.mean(gains))
    level = 0.05 * 6 / np.pi**2
    freedom = difference.measure_difference(predictions).spread.freedom
    assert 5 <= freedom <= 10
    reach = stats.t.ppf(1 - level, freedom) * error
    assert (criterion.low, criterion.high) == pytest.approx((criterion.value - reach, criterion.value + reach))
    assert "cells of 12 acquisition groups" in criterion.detail
    assert "each end one-sided at 96.96%, by group); the lower end must be above +0.000" in criterion.detail
    assert "look 1 at these test groups, which may spend 3.04% of 5%" in criterion.detail
    one_each = dataclasses.replace(predictions, groups=predictions.targets.astype(str))
    assert "by cell, which says nothing of other groups);" in better(one_each, settings()).detail


def test_each_look_at_the_same_groups_needs_more(rng, settings):
    predictions = paired(rng, 0.8, 0.85)
    first = better(predictions, settings())
    assert first.holds
    assert (first.look, len(first.groups)) == (1, 12)
    seen = frozenset(first.groups)
    tenth = gate.better(Champion("1", predictions, (seen,) * 9), settings())
    assert tenth.look == 10
    assert tenth.low < first.low
    assert not tenth.holds
    elsewhere = gate.better(Champion("1", predictions, (frozenset(["00000000"]),) * 9), settings())
    assert elsewhere == first


def test_few_test_groups_ask_for_a_signature_which_lifts_no_test(rng, settings):
    two, three = (paired(rng, 0.6, 0.95, groups=groups) for groups in (4, 6))
    signature = {"name": "Ada Example", "reason": "no other runs this year", "criteria": ["replicates"]}

    def decide(predictions, **changes):
        return gate.decide("binary", metrics(), None, Champion("1", predictions), settings(**changes))

    assert all(criterion.holds for criterion in decide(three, max_group_fall=1.0).values())
    unsigned = decide(two)["replicates"]
    assert not unsigned.holds
    assert "class a has 2 test groups, and 3 are needed" in unsigned.detail
    assert "enter a name and a reason, with criteria: [replicates], under gate.signed_off" in unsigned.detail
    signed = decide(two, signed_off={"binary": signature})
    assert signed["replicates"].holds
    assert "signed off by Ada Example: no other runs this year" in signed["replicates"].detail
    worse = dataclasses.replace(two, before=two.after, after=two.before)
    assert not decide(worse, signed_off={"binary": signature})["better"].holds
    for_another = signature | {"criteria": ["audit"]}
    assert not decide(two, signed_off={"binary": for_another})["replicates"].holds
    shortcut = gate.decide("binary", metrics("shortcut"), None, NONE_YET, settings(signed_off={"binary": signature}))
    assert not shortcut["audit"].holds


def test_groups_that_agree_to_the_last_cell_prove_nothing(settings):
    """One cell more of each class is right in every group: no scatter, and no proof."""
    targets = np.repeat([0, 1], 60)
    groups = np.array([f"{'ab'[t]}{i % 3}" for i, t in enumerate(targets)])
    before = targets.copy()
    before[[0, 1, 2, 60, 61, 62]] = [1, 1, 1, 0, 0, 0]
    predictions = PairedPredictions(
        np.arange(120), ["a", "b"], targets, groups, np.eye(2)[before], np.eye(2)[targets], 1.0, 1.0
    )
    criterion = better(predictions, settings())
    assert criterion.value == pytest.approx(0.05)
    # As if of 63 cells of each class four were mended and one broken; four degrees of freedom.
    error = np.sqrt(2 * (5 / 63 - (3 / 63) ** 2) / 63) / 2
    level = 0.05 * 6 / np.pi**2
    assert criterion.low == pytest.approx(0.05 - stats.t.ppf(1 - level, 4) * error)
    assert not criterion.holds


def test_images_of_one_cell_prove_no_more_than_one_of_them(rng):
    """With one group of a class, cells are left out in turn: all images of each."""
    once = paired(rng, 0.7, 0.8, cells=100, groups=1)
    often = np.repeat(np.arange(100), 8)
    images = {name: getattr(once, name)[often] for name in ("rows", "targets", "groups", "before", "after")}
    followed = dataclasses.replace(once, **images, cells=often)
    error = difference.measure_difference(once).spread.error
    assert difference.measure_difference(followed).spread.error == pytest.approx(error)
    assert difference.measure_difference(dataclasses.replace(followed, cells=None)).spread.error < error / 2


def test_images_of_one_cell_prove_no_more_where_all_groups_agree():
    targets = np.repeat([0, 1], 30)
    groups = np.array([f"{'ab'[t]}{i % 3}" for i, t in enumerate(targets)])
    right, wrong = np.eye(2)[targets], np.eye(2)[1 - targets]
    once = PairedPredictions(np.arange(60), ["a", "b"], targets, groups, wrong, right, 1.0, 1.0)
    often = np.repeat(np.arange(60), 8)
    images = {name: getattr(once, name)[often] for name in ("rows", "targets", "groups", "before", "after")}
    followed = dataclasses.replace(once, **images, cells=often)
    error = difference.measure_difference(once).spread.error
    assert difference.measure_difference(followed).spread.error == pytest.approx(error)


def test_the_same_model_is_not_better_than_itself(rng, settings):
    predictions = paired(rng, 0.8, 0.8)
    assert not better(dataclasses.replace(predictions, after=predictions.before), settings()).holds


@pytest.mark.slow
def test_chance_alone_seldom_passes(rng, settings):
    passed = [better(paired(rng, 0.8, 0.8), settings()).holds for _ in range(300)]
    assert np.mean(passed) <= 0.0304 + 3 * np.sqrt(0.0304 * 0.97 / 300)


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
