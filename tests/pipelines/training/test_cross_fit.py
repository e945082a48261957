import numpy as np
import pytest
import torch
from torch import nn

from fatescope.data.tracks import Tracks
from fatescope.errors import SplitError
from fatescope.networks.network import Outputs
from pipelines.training import cross_fit
from pipelines.training.cross_fit import Unseen, ask, deal_folds
from pipelines.training.examples import Examples


@pytest.fixture
def calibrate(make_params):
    """Return the section with so many folds."""
    return lambda folds: make_params({"calibrate.folds": folds}).calibrate


def examples_of(targets, train):
    """Cells of these classes, of which the first `train` are for training, and one at the end is in no split."""
    rows, pixels = np.arange(len(targets)), np.zeros((len(targets) + 1, 4, 4), np.uint16)
    return Examples(pixels, np.array([*targets, -1], np.int64), rows[:train], rows[train:])


def check(dealt, count, rows):
    """Every cell is held out once, and is not among those that its fold is trained on."""
    assert len(dealt.parts) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.held for fold in dealt.parts])), rows)
    for fold in dealt.parts:
        np.testing.assert_array_equal(np.union1d(fold.held, fold.examples.train), rows)
        assert len(fold.held) + len(fold.examples.train) == len(rows)
        assert not len(fold.examples.validation)


def test_no_group_is_in_two_folds(calibrate):
    targets = np.repeat(np.arange(2), 60)
    examples = examples_of(targets, 80)
    groups = np.array([f"g{i // 10}" for i in range(120)] + ["other"])
    dealt = deal_folds(examples, groups, calibrate(3), whole=True)
    check(dealt, 3, np.arange(120))
    for fold in dealt.parts:
        assert not set(groups[fold.held]) & set(groups[fold.examples.train])
        assert np.bincount(targets[fold.held]).tolist() == [20, 20]
    assert dealt.groups is groups


def test_cells_of_one_group_are_parted_under_the_random_scheme(calibrate):
    examples = examples_of([0, 1] * 30, 40)
    dealt = deal_folds(examples, np.array(["one"] * 61), calibrate(4), whole=False)
    check(dealt, 4, np.arange(60))
    assert all(7 <= (examples.targets[fold.held] == 0).sum() <= 8 for fold in dealt.parts)


def test_there_are_no_more_folds_than_the_rarest_class_has_groups(calibrate):
    groups = np.array([*(f"a{i}" for i in range(10)), "b0", "b0", "b1", "b1", "b1", "other"])
    dealt = deal_folds(examples_of([0] * 10 + [1] * 5, 12), groups, calibrate(5), whole=True)
    check(dealt, 2, np.arange(15))


def test_a_group_may_have_several_classes(calibrate):
    groups = np.array(["m0"] * 8 + ["m1"] * 8 + ["m2"] * 8 + ["other"])
    check(deal_folds(examples_of([0, 1] * 12, 16), groups, calibrate(3), whole=True), 3, np.arange(24))


def test_where_nothing_else_is_left_training_and_validation_are_the_folds(calibrate, monkeypatch):
    """As may be where groups have several classes."""
    examples = examples_of([0, 1, 0, 1, 0, 1], 4)
    groups = np.array(["m0", "m0", "m1", "m1", "m2", "m2", "other"])
    monkeypatch.setattr(cross_fit, "StratifiedGroupKFold", OnlyOneClass)
    dealt = deal_folds(examples, groups, calibrate(3), whole=True)
    check(dealt, 2, np.arange(6))
    assert [fold.held.tolist() for fold in dealt.parts] == [[4, 5], [0, 1, 2, 3]]


class OnlyOneClass:
    """Folds that hold out all cells of a class."""

    def __init__(self, *_, **__):
        pass

    def split(self, rows, targets, _):
        places = np.arange(len(rows))
        return [(places[targets == k], places[targets != k]) for k in (0, 1)]


def test_it_says_so_where_no_folds_have_every_class(calibrate):
    groups = np.array(["a", "a", "b", "other"])
    with pytest.raises(SplitError, match=r"two parts that both have every class.*add acquisition groups"):
        deal_folds(examples_of([0, 1, 0], 2), groups, calibrate(2), whole=True)


class Mean(nn.Module):
    """A model whose embedding is the mean of a cell, and whose logits say which of two it is nearer to."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        mean = pixels.float().mean((1, 2, 3))
        embedding = torch.stack([mean, -mean, mean**2], 1)
        return Outputs(torch.stack([-mean, mean - 40], 1), embedding, pixels)


def test_a_model_is_asked_for_the_cells_that_were_held_out(calibrate, rng, monkeypatch):
    targets = np.arange(40, dtype=np.int64) % 2
    pixels = rng.normal(20 + 20 * targets[:, None, None], 2, (40, 4, 4)).astype(np.uint16)
    rows = np.arange(40)
    examples = Examples(pixels, targets, rows[:30], rows[30:])
    dealt = deal_folds(examples, np.array([f"g{i // 4}" for i in range(40)]), calibrate(2), whole=True)
    monkeypatch.setattr(cross_fit, "SAMPLE", 7)  # in pieces
    asked = Unseen.join([ask(Mean(), fold, 2) for fold in dealt.parts])
    np.testing.assert_array_equal(np.sort(asked.rows), rows)
    np.testing.assert_array_equal(asked.logits[:, 0], -pixels[asked.rows].mean((1, 2), dtype=np.float32))
    assert 0 < np.median(asked.distance) < 2


def test_images_of_one_cell_are_in_one_fold_under_the_random_scheme(calibrate):
    examples = examples_of(np.repeat([0, 1], 60), 80)
    keys = np.array([*np.repeat(np.arange(30), 4), 99])
    of_cells = Tracks(keys, np.zeros(121))
    dealt = deal_folds(examples, np.array(["one"] * 121), calibrate(3), whole=False, tracks=of_cells)
    check(dealt, 3, np.arange(120))
    for fold in dealt.parts:
        assert not set(keys[fold.held]) & set(keys[fold.examples.train])
        assert np.bincount(examples.targets[fold.held]).tolist() == [20, 20]
    assert dealt.tracks is of_cells
