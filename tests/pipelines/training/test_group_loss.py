import numpy as np
import pytest
import torch
from torch.nn import functional

from fatescope.errors import ParamsError
from pipelines.training import trainer
from pipelines.training.examples import Examples
from pipelines.training.group_loss import GroupLoss
from pipelines.training.loss import cell_losses, weighted_cross_entropy

CPU = torch.device("cpu")


def even(count):
    return np.full(count, 1 / count)


def test_it_begins_as_the_loss_of_pooled_cells():
    torch.manual_seed(0)
    logits, targets = torch.randn(12, 2), torch.tensor([0] * 8 + [1] * 4)
    weights = torch.tensor([0.75, 1.5])
    groups = np.array([7, 7, 7, 7, 7, 7, 3, 3, 3, 3, 9, 9])
    loss = GroupLoss(groups, weights[targets].double().numpy(), even(12), 1e-9, CPU)
    grouped = loss(cell_losses(logits, targets, weights, 0.0), torch.from_numpy(loss.places(groups)))
    torch.testing.assert_close(grouped, weighted_cross_entropy(logits, targets, weights, 0.0))


def test_batches_without_some_groups_are_right_on_average(rng):
    groups, losses = np.repeat([0, 1, 2], [2, 10, 88]), torch.arange(100.0)
    loss = GroupLoss(groups, np.ones(100), even(100), 1e-9, CPU)
    loss.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    batches = [rng.integers(0, 100, 20) for _ in range(4000)]
    mean = np.mean([float(loss(losses[b], torch.from_numpy(loss.places(groups[b])))) for b in batches])
    assert mean == pytest.approx(0.5 * 0.5 + 0.3 * 6.5 + 0.2 * 55.5, rel=0.02)


def test_groups_that_are_classified_badly_count_more():
    """A shortcut that nine cells of ten follow, and a weak feature that all do (Sagawa et al. 2020, figure 1)."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 600)
    groups = (rng.random(600) < 0.1).astype(np.int64)
    shortcut = np.where(groups == 0, targets, 1 - targets) * 2 - 1
    inputs = np.column_stack([shortcut * 3.0, (targets * 2 - 1) * 0.5]) + 0.5 * rng.standard_normal((600, 2))
    given, labels = torch.from_numpy(inputs).float(), torch.from_numpy(targets)

    def worst(loss):
        line = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(line.weight)
        optimizer = torch.optim.AdamW(line.parameters(), 0.03, weight_decay=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            losses = functional.cross_entropy(line(given), labels, reduction="none")
            loss(losses).backward()
            optimizer.step()
        right = (line(given).argmax(1) == labels).numpy()
        return min(right[groups == g].mean() for g in (0, 1))

    grouped = GroupLoss(groups, np.ones(600), even(600), 0.05, CPU)
    places = torch.from_numpy(grouped.places(groups))
    assert worst(lambda losses: losses.mean()) < 0.5
    assert worst(lambda losses: grouped(losses, places)) > 0.7
    assert grouped.weights[1] > 0.3
    assert float(grouped.weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("groups", [None, np.zeros(16, np.int64)])
def test_one_group_is_told(make_params, groups):
    cells, rows = np.zeros((16, 60, 80), np.uint16), np.arange(16)
    examples = Examples(cells, rows % 2, rows, rows[:0], groups=groups)
    settings = make_params({"train.groups": "dro", "train.backbone": "compact"}).train
    with pytest.raises(ParamsError, match=r"train.groups: dro .* the training cells are of one; set pooled"):
        trainer.TrainingLoop(examples, 2, settings, 0)


def test_a_step_of_any_size_leaves_weights_that_add_up_to_one():
    groups = np.repeat([0, 1, 2], 4)
    loss = GroupLoss(groups, np.ones(12), np.full(12, 1 / 12), 1000.0, torch.device("cpu"))
    places = torch.from_numpy(loss.places(groups))
    for worst in (2, 0, 1):
        value = loss(torch.tensor([5.0 if group == worst else 0.1 for group in groups]), places)
        assert bool(value.isfinite())
        assert float(loss.weights.sum()) == pytest.approx(1)
