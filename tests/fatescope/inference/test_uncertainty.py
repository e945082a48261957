import numpy as np

from fatescope.inference.classification import from_assessment
from fatescope.inference.uncertainty import assess, coarse_calls

CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3", "fibroblast"]
HIERARCHY = {"neuron": ["RA/SHH", "NT3"], "glia": ["astrocyte", "oligodendrocyte"]}


def assessed(*rows, distance=0.5):
    return assess(np.array(rows, np.float32), np.full(len(rows), distance, np.float32), [0.2] * 5)


def test_a_cell_whose_class_is_unsure_may_be_sure_of_a_coarse_one():
    assessment = assessed(
        [0.02, 0.02, 0.5, 0.4, 0.06],  # one neuron or the other
        [0.05, 0.9, 0.02, 0.01, 0.02],  # sure of its class
        [0.3, 0.1, 0.4, 0.1, 0.1],  # glia or neuron
        [0.1, 0.1, 0.0, 0.4, 0.4],  # neuron, or of no coarse class
        [0.0, 0.0, 0.0, 0.0, 1.0],  # of no coarse class
    )
    calls = coarse_calls(assessment, CLASSES, HIERARCHY)
    assert assessment.verdicts.tolist() == ["unsure", "sure", "unsure", "unsure", "sure"]
    assert [call and (call.label, round(call.probability, 5)) for call in calls] == [
        ("neuron", 0.9),
        ("glia", 0.95),
        None,
        None,
        None,
    ]
    answers = from_assessment(assessment, CLASSES, HIERARCHY)
    assert [answer.coarse for answer in answers] == calls
    assert answers[0].label == "RA/SHH"


def test_there_is_no_coarse_class_for_cells_unlike_the_training_cells_and_without_a_hierarchy():
    sure = [0.0, 1.0, 0.0, 0.0, 0.0]
    assert coarse_calls(assessed(sure, distance=1.5), CLASSES, HIERARCHY) == [None]
    assert coarse_calls(assessed(sure), CLASSES, {}) == [None]
    assert coarse_calls(assessed(sure), CLASSES, HIERARCHY) == [("glia", 1.0)]


def test_a_coarse_class_is_wrong_no_more_often_than_the_conformal_set(rng):
    targets = rng.integers(0, 5, 4000)
    logits = rng.normal(0, 1, (4000, 5))
    logits[np.arange(4000), targets] += 1.5
    powers = np.exp(logits)
    assessment = assess(np.float32(powers / powers.sum(1, keepdims=True)), np.zeros(4000, np.float32), [0.15] * 5)
    calls = coarse_calls(assessment, CLASSES, HIERARCHY)
    wrong = [
        call is not None and CLASSES[target] not in HIERARCHY[call.label]
        for call, target in zip(calls, targets, strict=True)
    ]
    missed = ~assessment.sets[np.arange(4000), targets]
    assert np.mean(wrong) > 0
    assert not (np.array(wrong) & ~missed).any()
