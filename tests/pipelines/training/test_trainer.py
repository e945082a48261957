import itertools

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from fatescope.data.crops import background
from fatescope.errors import ParamsError
from pipelines.training import dataloader, trainer
from pipelines.training.examples import Examples, class_weights, iterate_batches
from pipelines.training.prediction import predict
from tests.support.images import draw_cell


@pytest.fixture
def examples(rng):
    """Discs of two sizes, three times as many small ones."""
    targets = np.array([0, 0, 0, 1] * 24, np.int64)
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(len(targets))
    return Examples(pixels, targets, rows[:72], rows[72:])


def short(make_params, **changes):
    defaults = {
        "backbone": "compact",
        "epochs": 15,
        "batch_size": 16,
        "learning_rate": 0.01,
        "threads": 1,
        "patience": 99,
    }
    return make_params({f"train.{k}": v for k, v in {**defaults, **changes}.items()}).train


def test_it_learns_and_reports_each_epoch(make_params, examples):
    reports = []
    network, epochs, _ = trainer.fit(
        examples, 2, short(make_params), 0, lambda epoch, figures: reports.append((epoch, figures))
    )
    assert epochs == 15
    assert [epoch for epoch, _ in reports] == list(range(15))
    assert reports[-1][1]["train_loss"] < reports[0][1]["train_loss"]
    assert max(figures["validation_balanced_accuracy"] for _, figures in reports) > 0.9
    assert not network.training


def loss_of(network, examples):
    """Return the cross-entropy on the validation cells, all classes weighted equally."""
    logits = predict(network, examples.pixels, examples.validation).logits
    targets = examples.targets[examples.validation]
    losses = -log_softmax(logits, axis=1)[np.arange(len(targets)), targets]
    return np.mean([losses[targets == k].mean() for k in (0, 1)])


def test_the_best_epoch_is_kept(make_params, examples):
    reports = []
    network, _, _ = trainer.fit(
        examples, 2, short(make_params), 0, lambda _, figures: reports.append(figures["validation_loss"])
    )
    assert loss_of(network, examples) == pytest.approx(min(reports), rel=1e-3)


@pytest.mark.parametrize("balance", ["none", "weights", "sampling"])
def test_the_loss_is_of_the_mixture_that_the_network_learns(make_params, examples, balance):
    reports = []
    settings = short(make_params, epochs=1, balance=balance)
    network, _, _ = trainer.fit(examples, 2, settings, 0, lambda _, figures: reports.append(figures["validation_loss"]))
    logits = predict(network, examples.pixels, examples.validation).logits
    truth = examples.targets[examples.validation]
    losses = -log_softmax(logits, axis=1)[np.arange(len(truth)), truth]
    equal = np.mean([losses[truth == k].mean() for k in (0, 1)])
    assert losses.mean() != pytest.approx(equal, rel=1e-2)
    assert reports == pytest.approx([losses.mean() if balance == "none" else equal], rel=1e-4)


def test_a_fit_that_gets_no_better_ends_early(make_params, examples):
    # Labels by chance: nothing that is learned helps on the validation cells.
    targets = np.random.default_rng(0).integers(0, 2, len(examples.targets))
    chance = Examples(examples.pixels, targets, examples.train, examples.validation)
    losses = []
    _, epochs, _ = trainer.fit(
        chance,
        2,
        short(make_params, epochs=40, patience=3),
        0,
        lambda _, figures: losses.append(figures["validation_loss"]),
    )
    assert len(losses) < 40
    assert epochs == int(np.argmin(losses)) + 1 == len(losses) - 3


def test_without_validation_cells_all_epochs_are_made(make_params, examples):
    reports = []
    whole = Examples(examples.pixels, examples.targets, examples.train, examples.validation[:0])
    trainer.fit(whole, 2, short(make_params, epochs=4, patience=1), 0, lambda _, figures: reports.append(figures))
    assert [set(each) for each in reports] == [{"train_loss"}] * 4


def test_a_fixed_level_is_that_of_the_training_cells(make_params, examples):
    brighter = examples.pixels.copy()
    brighter[examples.validation] += 300
    changed = Examples(brighter, examples.targets, examples.train, examples.validation)
    made = trainer.fit(changed, 2, short(make_params, normalisation="fixed", epochs=1), 0, lambda *_: None)
    expected = np.median(background(examples.pixels[examples.train]))
    assert float(made.network.level) == pytest.approx(expected, abs=1)


def test_a_loss_that_is_no_number_is_told(make_params, examples):
    with pytest.raises(
        ParamsError, match=r"with 1e\+30, train_loss of compact is nan after epoch \d+: training has diverged"
    ):
        trainer.fit(examples, 2, short(make_params, learning_rate=1e30), 0, lambda *_: None)


def test_a_validation_loss_that_is_no_number_is_told(make_params):
    figures = {"train_loss": 0.1, "validation_loss": float("inf")}
    with pytest.raises(ParamsError, match="validation_loss of compact is inf after epoch 3"):
        trainer._check_finite(figures, 3, short(make_params))


def test_views_are_for_the_finished_network(make_params, examples):
    def fitted(**changes):
        losses = []
        settings = short(make_params, epochs=2, symmetries=True, **changes)
        return trainer.fit(examples, 2, settings, 0, lambda _, said: losses.append(said)).network, losses

    (once, losses), (averaged, same) = fitted(views="one"), fitted(views="symmetries")
    assert losses == same
    assert (once.views, averaged.views) == ("one", "symmetries")


def test_a_seed_decides(make_params, examples):
    def weights(seed):
        network, _, _ = trainer.fit(examples, 2, short(make_params, epochs=1), seed, lambda *_: None)
        return network.linear.weight.detach()

    first, second, third = weights(0), weights(0), weights(1)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize(("balance", "share"), [("sampling", 1 / 2), ("weights", 1 / 4), ("none", 1 / 4)])
def test_how_often_a_rare_class_is_drawn(make_params, examples, balance, share):
    params = short(make_params, balance=balance)
    weights = class_weights(examples.targets[examples.train], 2)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rows for _ in range(20) for rows in iterate_batches(examples, weights, params, rng)])
    assert examples.targets[drawn].mean() == pytest.approx(share, abs=0.04)


def test_pixels_on_the_device_are_those_of_the_memory_map(rng):
    pixels = rng.integers(0, 65536, (20, 6, 8)).astype(np.uint16)
    kept, rows = np.array([3, 5, 9, 17]), np.array([17, 3, 3])
    device = torch.device("cpu")
    mapped, resident = dataloader.MemmapLoader(pixels, device), dataloader.DeviceLoader(pixels, kept, device)
    assert torch.equal(mapped(rows), resident(rows))
    assert mapped(rows).shape == (3, 1, 6, 8)
    with pytest.raises(AssertionError, match="rows that the loader was not made with"):
        resident(np.array([4]))


def test_rare_classes_weigh_as_much_as_common_ones():
    weights = class_weights(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2])


def test_only_the_listed_rows_are_read(make_params, examples):
    poisoned = Examples(examples.pixels, examples.targets, examples.train[:32], examples.train[32:48])
    unread = np.setdiff1d(np.arange(len(examples.targets)), examples.train[:48])
    poisoned.targets[unread] = -1  # a target that would make the loss fail
    trainer.fit(poisoned, 2, short(make_params, epochs=1), 0, lambda *_: None)


def test_fewer_cells_than_a_batch_still_train(make_params, examples):
    few = Examples(examples.pixels, examples.targets, examples.train[:5], examples.validation[:5])
    trainer.fit(few, 2, short(make_params, epochs=1), 0, lambda *_: None)


@pytest.fixture
def scaled(monkeypatch):
    """Return what scales losses as training in float16 does, beginning with a factor."""
    return lambda factor: monkeypatch.setattr(
        trainer, "gradient_scaler", lambda device: torch.amp.GradScaler(device.type, init_scale=factor)
    )


def test_scaled_gradients_train_the_same_network(make_params, examples, scaled):
    plain, losses = (trainer.fit(examples, 2, short(make_params, epochs=2), 0, lambda *_: None), [])
    scaled(2.0**16)
    same = trainer.fit(examples, 2, short(make_params, epochs=2), 0, lambda _, metrics: losses.append(metrics))
    assert (same.epochs, same.shortened) == (plain.epochs, plain.shortened)
    pairs = zip(plain.network.state_dict().values(), same.network.state_dict().values(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-3) for one, other in pairs)
    assert losses[0]["train_loss"] < 5, "it is not scaled"


def test_a_step_whose_gradients_overflow_is_left_out_and_the_next_one_is_taken(make_params, examples, scaled):
    scaled(2.0**16)
    loop = trainer.TrainingLoop(examples, 2, short(make_params), 0)
    compute_loss, factors = loop._loss, iter([1e36, 1.0])
    loop._loss = lambda *batch: next(factors) * compute_loss(*batch)
    changed, scales = [], []
    for batch in itertools.islice(loop.batches(), 2):
        before = loop.network.linear.weight.detach().clone()
        loop.step(batch)
        changed.append(not torch.equal(before, loop.network.linear.weight))
        scales.append(loop._scaler.get_scale())
    assert changed == [False, True]
    assert scales == [2.0**15] * 2
    loop.close()


def test_a_fit_gives_back_its_pixels_and_gradients(make_params, examples, monkeypatch):
    loops, build = [], trainer.TrainingLoop

    def built(*args):
        loops.append(build(*args))
        return loops[-1]

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "TrainingLoop", built)
    made = trainer.fit(examples, 2, short(make_params, epochs=1), 0, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(examples, 2, short(make_params, epochs=1), 0, interrupt)
    assert all(not hasattr(loop, "_training") and not hasattr(loop, "_pass") for loop in loops)
    assert all(parameter.grad is None for parameter in made.network.parameters())


def test_validation_cells_are_opened_once_for_all_epochs(make_params, examples, monkeypatch):
    opened, open_loaders = [], trainer.open_loaders

    def counted(pixels, parts, device):
        opened.append([len(rows) for rows in parts])
        return open_loaders(pixels, parts, device)

    monkeypatch.setattr(trainer, "open_loaders", counted)
    trainer.fit(examples, 2, short(make_params, epochs=3), 0, lambda *_: None)
    assert opened == [[72, 24]]
