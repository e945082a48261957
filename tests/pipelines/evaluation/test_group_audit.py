"""Acquisition groups accuse what separates them, and nothing where chance or biology would do it too."""

from math import comb

import numpy as np
import pytest

from pipelines.evaluation import group_audit, instrument
from pipelines.evaluation.acquisition import AcquisitionPrediction
from pipelines.evaluation.audit_report import STAGES, AuditReport, PairAudit
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.group_audit import judge_groups, permutation_p, smallest_p
from pipelines.evaluation.intervals import make_units
from pipelines.evaluation.pair_audit import audit_pair
from tests.support import reports

PAIR = ("a", "b")
CELLS = 20


@pytest.fixture
def params(make_params):
    return make_params({}).audit


def sample(rng, groups, *, shift=0.0, between=1.0, within=1.0, shared=0, cells=CELLS):
    """Return groups of two classes, whose features scatter between groups and within, and differ by `shift`.

    The last `shared` groups of each class are the same.
    """
    labels = np.repeat(PAIR, groups * cells)
    number = np.tile(np.repeat(np.arange(groups), cells), 2)
    own = np.where(number < groups - shared, labels, "both")
    names = np.char.add(np.char.add(own, " "), number.astype(str))
    place = np.unique(names, return_inverse=True)[1]
    features = {}
    for name in instrument.DESCRIPTIONS:
        of_group = between * rng.standard_normal((place.max() + 1, 2))
        noise = within * rng.standard_normal((len(labels), 2))
        features[name] = of_group[place] + noise + shift * (labels == "a")[:, None]
    everywhere = np.ones(len(labels), bool)
    stages = {"raw": features, "normalised": features}
    return AuditSample(labels, names, everywhere, make_units(names, labels), stages, features[instrument.FOCUS])


def judge(cells, params, stage="raw"):
    return {evidence.description: evidence for evidence in judge_groups(cells, stage, PAIR, params)}


def test_what_follows_the_class_is_found_and_only_what_is_away_from_the_cell_proves_it(rng, params):
    found = judge(sample(rng, 8, shift=8.0), params)
    assert {name: evidence.verdict for name, evidence in found.items()} == {
        "noise": "shortcut",
        "gain": "shortcut",
        "focus": "suspect",
        "halo": "clean",
    }
    noise = found["noise"]
    assert (noise.model, noise.groups, noise.value) == ("groups", 8, 1.0)
    assert noise.cells > 0.95
    assert noise.smallest_p <= noise.p_value <= noise.limit == pytest.approx(0.05 / 3)


def test_after_normalisation_there_is_no_gain(rng, params):
    assert list(judge(sample(rng, 5), params, "normalised")) == ["noise", "focus", "halo"]


def test_with_few_groups_nobody_is_accused_however_far_they_are_apart(rng, params):
    for groups in (3, 4):
        for evidence in judge(sample(rng, groups, shift=100.0), params).values():
            assert (evidence.value, evidence.verdict) == (1.0, "clean")
            assert evidence.smallest_p == pytest.approx(2 / comb(2 * groups, groups))
            assert evidence.smallest_p > evidence.limit
    assert judge(sample(rng, 5, shift=100.0), params)["noise"].verdict == "shortcut"
    assert judge(sample(rng, 2, shift=100.0), params) == {}


def test_a_difference_that_no_single_cell_shows_accuses_nobody(rng, params):
    found = judge(sample(rng, 8, shift=0.5, between=0.01, cells=80), params)
    assert found["noise"].low > params.shortcut_auc
    assert found["noise"].cells < group_audit.VISIBLE
    assert {evidence.verdict for evidence in found.values()} == {"clean"}


def test_groups_that_hold_both_classes_do_not_count(rng, params):
    assert judge(sample(rng, 8, shift=8.0, shared=2), params)["noise"].groups == 6
    # Where most cells share their groups, the others say nothing of the class.
    assert judge(sample(rng, 8, shift=8.0, shared=5), params) == {}


@pytest.mark.slow
def test_classes_that_differ_by_chance_alone_are_rarely_accused(rng, params):
    """Groups are far apart, so that single cells show which; one audit in twenty may accuse somebody."""
    draws, accused, apart = 200, {3: 0, 6: 0}, 0
    for groups in accused:
        for _ in range(draws):
            found = judge(sample(rng, groups, between=3.0, within=0.5), params).values()
            accused[groups] += any(evidence.verdict != "clean" for evidence in found)
            apart += groups == 3 and any(evidence.low > 0.9 and evidence.cells > 0.9 for evidence in found)
    assert accused[6] / draws <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)
    # Three groups a class are often as far apart as can be, which says nothing.
    assert apart / draws > 0.1
    assert accused[3] == 0


@pytest.mark.parametrize("groups", [4, 9])
def test_the_p_value_is_uniform_where_labels_mean_nothing(rng, groups):
    """Of all deals (four groups a class), and of random ones (nine)."""
    labels = np.arange(2 * groups) < groups
    found = np.array([permutation_p(rng.standard_normal((2 * groups, 2)), labels, 0.05, 0) for _ in range(200)])
    assert found.min() >= smallest_p(labels) - 1e-9
    for level in (0.1, 0.3, 0.6):
        assert (found <= level).mean() <= level + 2.6 * np.sqrt(level * (1 - level) / len(found))


def test_each_group_is_judged_by_the_others_alone(rng):
    medians = rng.standard_normal((10, 3))
    labels = np.arange(10) < 5
    weights, offsets = group_audit._discriminants(medians, labels[None])
    others = np.arange(10) != 3
    ups, downs = medians[others & labels], medians[others & ~labels]
    variance = (ups.var(0) * len(ups) + downs.var(0) * len(downs)) / (len(ups) + len(downs) - 2)
    expected = (ups.mean(0) - downs.mean(0)) / variance
    np.testing.assert_allclose(weights[0, 3], expected)
    assert offsets[0, 3] == pytest.approx(expected @ (ups.mean(0) + downs.mean(0)) / 2)


@pytest.mark.parametrize(
    ("moved", "verdict", "evidence"),
    [("focus", "suspect", ("groups", "focus")), ("halo", "clean", ("linear", "masked"))],
)
def test_the_verdict_on_a_pair_is_the_worst_of_its_cells_and_its_groups(rng, params, moved, verdict, evidence):
    described = sample(rng, 8)
    for stage in STAGES:
        described.descriptions[stage][moved] = sample(rng, 8, shift=8.0).descriptions["raw"][moved]
    guesses = rng.uniform(0.4, 0.6, (len(described.labels), 2))
    blind = [AcquisitionPrediction(stage, "masked", "grouped", "linear", guesses) for stage in STAGES]
    audited = audit_pair(described, blind, PAIR, params)
    assert (audited.verdict, audited.verdict_normalised) == (verdict, verdict)
    assert (audited.raw.model, audited.raw.description) == evidence
    assert [one.description for one in audited.by_group["raw"]] == ["noise", "gain", "focus", "halo"]
    assert PairAudit.model_validate(audited.model_dump()) == audited


def test_reports_of_before_have_no_groups():
    assert all(pair.by_group == {} for pair in AuditReport.read(reports.AUDIT).pairs)
