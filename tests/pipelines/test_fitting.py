import numpy as np
import pytest
import torch

from pipelines import fitting
from tests.conftest import draw_cell


@pytest.fixture
def examples(rng):
    """Discs of two sizes, three times as many small ones."""
    targets = np.array([0, 0, 0, 1] * 24, np.int64)
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    return fitting.Examples(pixels, targets, rows[:72], rows[72:])


def short(make_params, **changes):
    defaults = {"backbone": "compact", "epochs": 15, "batch_size": 16, "learning_rate": 0.01, "threads": 1}
    return make_params({f"train.{k}": v for k, v in {**defaults, **changes}.items()}).train


def test_it_learns_and_reports_each_epoch(make_params, examples):
    reports = []
    network = fitting.fit(examples, 2, short(make_params), lambda epoch, figures: reports.append((epoch, figures)))
    assert [epoch for epoch, _ in reports] == list(range(15))
    assert reports[-1][1]["train_loss"] < reports[0][1]["train_loss"]
    assert max(figures["validation_balanced_accuracy"] for _, figures in reports) > 0.9
    assert not network.training


def test_the_best_epoch_is_kept(make_params, examples):
    reports = []
    params = short(make_params)
    network = fitting.fit(examples, 2, params, lambda _, figures: reports.append(figures["validation_loss"]))
    weights = fitting._balance(examples.targets[examples.train], 2)
    again = fitting._validate(network, examples, weights, params.batch_size, torch.device("cpu"))
    assert again["validation_loss"] == pytest.approx(min(reports), rel=1e-3)


def test_a_seed_decides(make_params, examples):
    def weights(seed):
        network = fitting.fit(examples, 2, short(make_params, epochs=1, seed=seed), lambda *_: None)
        return network.linear.weight.detach()

    first, second, third = weights(0), weights(0), weights(1)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_rare_classes_weigh_as_much_as_common_ones():
    weights = fitting._balance(np.array([0, 0, 0, 1]), 2)
    torch.testing.assert_close(weights, torch.tensor([4 / 6, 4 / 2]))


def test_only_the_listed_rows_are_read(make_params, examples):
    poisoned = fitting.Examples(examples.pixels, examples.targets, examples.train[:32], examples.train[32:48])
    unread = np.setdiff1d(np.arange(len(examples.targets)), examples.train[:48])
    poisoned.targets[unread] = -1  # a target that would make the loss fail
    fitting.fit(poisoned, 2, short(make_params, epochs=1), lambda *_: None)


def test_fewer_cells_than_a_batch_still_train(make_params, examples):
    few = fitting.Examples(examples.pixels, examples.targets, examples.train[:5], examples.validation[:5])
    fitting.fit(few, 2, short(make_params, epochs=1), lambda *_: None)
