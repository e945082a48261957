import numpy as np
import pytest

from fatescope.errors import DataError
from fatescope.inference.accuracy import student
from fatescope.teaching.folds import Folds, assign
from fatescope.teaching.guidance import contradictions, next_cells
from fatescope.teaching.head import Space
from fatescope.teaching.lesson import MAX_CLASSES, MIN_LABELS, measure, teach
from fatescope.teaching.regression import fit
from fatescope.teaching.shortcuts import audit
from tests.support.teaching import cells_of

TARGETS = np.tile([0, 1], 60)
SAMPLES = np.repeat([f"s{i}" for i in range(6)], 20)
NAMES = np.array(["a", "b"])


def test_a_regression_finds_the_slope_that_the_cells_have():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 3))
    targets = (rng.uniform(size=4000) < 1 / (1 + np.exp(-2 * points[:, 0]))).astype(np.int64)
    linear = fit(points, targets, 2, 1e-6)
    slope = linear.weights[1] - linear.weights[0]
    assert slope == pytest.approx([2, 0, 0], abs=0.15)


def test_rare_classes_count_as_much_as_others():
    points = np.concatenate([np.zeros(900), np.ones(100)])[:, None]
    targets = np.concatenate([np.zeros(900), np.tile([0, 1], 50)]).astype(np.int64)
    linear = fit(points, targets, 2, 1e-6)
    assert linear.logits(np.ones((1, 1))).argmax() == 1


@pytest.mark.parametrize(("gaps", "design"), [((3.0, 0.0), "embedding"), ((0.0, 3.0), "features")])
def test_the_head_reads_what_tells_the_classes_apart(gaps, design):
    cells = cells_of(TARGETS, SAMPLES, embedding_gap=gaps[0], features_gap=gaps[1])
    lesson = teach(cells, NAMES[TARGETS])
    assert lesson.head.design in {design, "both"}
    assert lesson.accuracy.value > 0.8


def test_a_network_that_has_nothing_to_say_is_not_read():
    targets, samples = np.tile([0, 1], 20), np.repeat([f"s{i}" for i in range(4)], 10)
    reads = [
        teach(cells_of(targets, samples, seed=seed, features_gap=1.5, width=64), NAMES[targets]).head.design
        for seed in range(10)
    ]
    assert reads.count("features") >= 9


def test_no_class_is_learned_from_noise():
    lesson = teach(cells_of(TARGETS, SAMPLES, between=2.0), NAMES[TARGETS])
    assert 0.3 < lesson.accuracy.value < 0.7


def test_samples_are_left_out_whole():
    folds = assign(TARGETS, SAMPLES, ["a", "b"])
    assert folds.kind == "samples"
    assert all(len(np.unique(folds.place[name == SAMPLES])) == 1 for name in np.unique(SAMPLES))


def test_recognising_the_sample_is_of_no_use():
    # Each sample has one class, and cells of a sample are alike: single cells left out would be told by their sample.
    targets = np.repeat([0, 1], 60)
    lesson = teach(cells_of(targets, SAMPLES, between=3.0), NAMES[targets])
    assert lesson.folds.kind == "samples"
    assert lesson.accuracy.value < 0.9


def test_one_sample_of_a_class_gives_no_interval_and_the_reason():
    samples = np.where(TARGETS == 0, "only", SAMPLES)
    lesson = teach(cells_of(TARGETS, samples, embedding_gap=3.0), NAMES[TARGETS])
    assert lesson.folds.kind == "cells"
    assert lesson.accuracy.low is None
    assert "'a' has labels in one sample alone" in lesson.accuracy.why


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, held, runs, truth = np.random.default_rng(0), 0, 400, 0.8
    targets, samples = np.repeat([0, 1], 80), np.repeat([f"s{i}" for i in range(8)], 20)
    folds = Folds(np.zeros(160, np.int64), "samples", None)
    for _ in range(runs):
        of_sample = np.clip(rng.normal(truth, 0.08, 8), 0, 1)
        right = rng.uniform(size=160) < np.repeat(of_sample, 20)
        accuracy = measure(np.where(right, targets, 1 - targets), targets, samples, ["a", "b"], folds)
        held += accuracy.low <= truth <= accuracy.high
    assert held / runs >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / runs)
    assert student(6) > 2.4


def test_too_few_labels_are_refused_by_name():
    with pytest.raises(DataError, match="'b' has 3 labels"):
        teach(cells_of([0] * 20 + [1] * 3, ["s"] * 23), np.array(["a"] * 20 + ["b"] * 3))
    with pytest.raises(DataError, match="two classes"):
        teach(cells_of([0] * 20, ["s"] * 20), np.array(["a"] * 20))


@pytest.mark.parametrize(("gap", "suspicious"), [(0.0, False), (4.0, True)])
def test_a_background_that_tells_the_classes_apart_is_reported(gap, suspicious):
    cells = cells_of(TARGETS, SAMPLES, embedding_gap=3.0, background_gap=gap)
    lesson = teach(cells, NAMES[TARGETS])
    background = audit(cells, lesson.targets, lesson.classes, lesson.folds)[0]
    assert background.suspicious is suspicious
    assert ("recorded differently" in background.words) is suspicious


def test_a_wrong_label_is_contradicted():
    labels = NAMES[TARGETS].copy()
    labels[7] = "a"
    lesson = teach(cells_of(TARGETS, SAMPLES, embedding_gap=6.0), labels)
    found = [(one.row, one.label, one.called) for one in contradictions(lesson)]
    assert (7, "a", "b") in found
    assert len(found) <= 3


def test_doubtful_cells_come_first_and_no_cell_twice():
    cells = cells_of(TARGETS, SAMPLES, embedding_gap=6.0)
    lesson = teach(cells, NAMES[TARGETS])
    waiting = cells_of(np.tile([0.0, 0.5, 1.0], 40), ["new"] * 120, seed=1, embedding_gap=6.0)
    rows = next_cells(lesson, cells, waiting, 10)
    assert len(set(rows.tolist())) == 10
    assert (rows % 3 == 1).mean() > 0.6


def test_before_any_label_cells_that_differ_come_first():
    waiting = cells_of([0] * 50 + [1] * 2, ["new"] * 52, embedding_gap=40.0)
    nothing = waiting.among(np.zeros(0, np.int64))
    assert set(next_cells(None, nothing, waiting, 8).tolist()) & {50, 51}
    assert len(next_cells(None, nothing, waiting, 80)) == 52


def test_more_classes_than_a_lesson_has_time_for_are_refused():
    targets = np.arange(MIN_LABELS * (MAX_CLASSES + 1)) % (MAX_CLASSES + 1)
    with pytest.raises(DataError, match=f"at most {MAX_CLASSES}"):
        teach(cells_of(targets, np.full(len(targets), "a")), targets.astype(str))


def test_coordinates_are_of_the_cells_that_are_left(monkeypatch):
    seen, of = [], Space.of
    monkeypatch.setattr(Space, "of", lambda embedding, features: seen.append(len(embedding)) or of(embedding, features))
    lesson = teach(cells_of(TARGETS, SAMPLES, embedding_gap=3.0), NAMES[TARGETS])
    left = [int((lesson.folds.place != fold).sum()) for fold in lesson.folds.names]
    assert seen == [len(TARGETS), *left]


@pytest.mark.parametrize("cells", [10, 40])
def test_principal_directions_keep_the_spread(cells):
    embedding = np.random.default_rng(0).normal(size=(cells, 20))
    points = Space.of(embedding, embedding).points(embedding, embedding, "embedding")
    standard = (embedding - embedding.mean(0)) / embedding.std(0) / np.sqrt(20)
    # Distances between cells are all that a ridge penalty sees.
    assert points @ points.T == pytest.approx(standard @ standard.T, abs=1e-9)
