import numpy as np
import pytest

from fatescope.inference.bundle import read_spec
from fatescope.inference.classification import from_assessment
from fatescope.inference.uncertainty import assess, coarse_calls
from tests.support.bundles import COMMITTED

CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3", "fibroblast"]
HIERARCHY = {"neuron": ["RA/SHH", "NT3"], "glia": ["astrocyte", "oligodendrocyte"]}


def assessed(*rows, distance=0.5):
    return assess(np.array(rows, np.float32), np.full(len(rows), distance, np.float32), [0.2] * 5)


ROWS = (
    [0.02, 0.02, 0.5, 0.4, 0.06],  # one neuron or the other
    [0.05, 0.9, 0.02, 0.01, 0.02],  # sure of its class
    [0.3, 0.22, 0.35, 0.1, 0.03],  # probably glia, but its most probable class is a neuron
    [0.04, 0.0, 0.36, 0.35, 0.25],  # probably a neuron, perhaps of no coarse class
    [0.1, 0.1, 0.0, 0.4, 0.4],  # neuron, or of no coarse class
    [0.0, 0.0, 0.0, 0.0, 1.0],  # of no coarse class
    [0.0, 0.45, 0.55, 0.0, 0.0],  # as good as any neuron, but not as its threshold asks for
    [0.5, 0.4, 0.1, 0.0, 0.0],  # one glia or the other
)


def labels_of(calls):
    return [call and call.label for call in calls]


def test_a_cell_whose_class_is_unsure_is_called_by_a_coarse_one_that_reaches_its_threshold():
    assessment = assessed(*ROWS)
    calls = coarse_calls(assessment, CLASSES, HIERARCHY, {"neuron": 0.7})
    assert [name == "sure" for name in assessment.verdicts] == [row in (1, 5) for row in range(8)]
    assert labels_of(calls) == ["neuron", "glia", None, "neuron", None, None, None, None]
    assert calls[3].probability == pytest.approx(0.71)
    assert labels_of(coarse_calls(assessment, CLASSES, HIERARCHY, {"neuron": 0.5, "glia": 0.9})) == (
        ["neuron", "glia", None, "neuron", None, None, "neuron", "glia"]
    )
    assert labels_of(coarse_calls(assessment, CLASSES, HIERARCHY, {})) == [None, "glia", *[None] * 6]


def test_models_without_thresholds_call_where_the_conformal_set_is_of_one_coarse_class():
    calls = coarse_calls(assessed(*ROWS), CLASSES, HIERARCHY, None)
    assert labels_of(calls) == ["neuron", "glia", None, None, None, None, None, "glia"]
    assert calls[1].probability == pytest.approx(0.95)


def test_the_answer_for_a_cell_has_the_call_of_its_model():
    spec = read_spec(COMMITTED / "multiclass")
    assessment = assess(np.float32([[0.4, 0.1, 0.3, 0.2]]), np.zeros(1, np.float32), [0.2] * 4)
    assert spec.coarse_thresholds is None  # of before there were thresholds
    joined = spec.model_copy(update={"hierarchy": {"one": [spec.classes[0], spec.classes[2]]}})
    for thresholds, label in ((None, None), ({"one": 0.65}, "one"), ({"one": 0.75}, None), ({}, None)):
        [answer] = from_assessment(assessment, joined.model_copy(update={"coarse_thresholds": thresholds}))
        assert labels_of([answer.coarse]) == [label]
        assert answer.label == spec.classes[0]


def test_there_is_no_coarse_class_for_cells_unlike_the_training_cells_and_without_a_hierarchy():
    sure = [0.0, 1.0, 0.0, 0.0, 0.0]
    for thresholds in ({"neuron": 0.5, "glia": 0.5}, None):
        assert coarse_calls(assessed(sure, distance=1.5), CLASSES, HIERARCHY, thresholds) == [None]
        assert coarse_calls(assessed(sure), CLASSES, {}, thresholds) == [None]
        assert coarse_calls(assessed(sure), CLASSES, HIERARCHY, thresholds) == [("glia", 1.0)]


def test_without_thresholds_a_coarse_class_is_wrong_no_more_often_than_the_conformal_set(rng):
    targets = rng.integers(0, 5, 4000)
    logits = rng.normal(0, 1, (4000, 5))
    logits[np.arange(4000), targets] += 1.5
    powers = np.exp(logits)
    assessment = assess(np.float32(powers / powers.sum(1, keepdims=True)), np.zeros(4000, np.float32), [0.15] * 5)
    calls = coarse_calls(assessment, CLASSES, HIERARCHY, None)
    wrong = [
        call is not None and CLASSES[target] not in HIERARCHY[call.label]
        for call, target in zip(calls, targets, strict=True)
    ]
    missed = ~assessment.sets[np.arange(4000), targets]
    assert np.mean(wrong) > 0
    assert not (np.array(wrong) & ~missed).any()
