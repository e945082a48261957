"""A pass that is recorded and replayed; what records is made up, because graphs need a GPU."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipelines.training import trainer
from pipelines.training.examples import Examples
from pipelines.training.graphed import WARM_UP, GraphedPass, record_graph
from tests.support import fake_graphs
from tests.support.images import draw_cell


class Recorder:
    """Records as CUDA does: a recording reads and writes the memory that it was made with."""

    def __init__(self, fails_with=None):
        self.fails_with, self.recorded, self.replayed = fails_with, 0, 0

    def __call__(self, run, *batch):
        self.recorded += 1
        if self.fails_with:
            raise self.fails_with
        inputs, output = [tensor.clone() for tensor in batch], torch.zeros(())

        def replay(*batch):
            self.replayed += 1
            for recorded, given in zip(inputs, batch, strict=True):
                recorded.copy_(given)
            output.copy_(run(*inputs))
            return output.clone()

        return replay


def batch(value, size=4):
    return torch.full((size, 1, 2, 2), float(value)), torch.full((size,), value)


def mean(pixels, targets):
    return pixels.mean() + targets.float().mean()


def test_after_some_steps_the_pass_is_recorded_once_and_replayed():
    recorder = Recorder()
    run = GraphedPass(mean, recorder)
    losses = [run(*batch(i)) for i in range(WARM_UP + 5)]
    assert [float(loss) for loss in losses] == [2.0 * i for i in range(WARM_UP + 5)]
    assert (recorder.recorded, recorder.replayed) == (1, 5)


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted\nstack"), torch.OutOfMemoryError("no memory")])
def test_a_pass_that_cannot_be_recorded_is_run_and_the_reason_told_once(error, caplog):
    recorder = Recorder(error)
    run = GraphedPass(mean, recorder)
    assert [float(run(*batch(i))) for i in range(WARM_UP + 5)] == [2.0 * i for i in range(WARM_UP + 5)]
    assert recorder.recorded == 1
    [record] = caplog.records
    assert record.getMessage().endswith(f"cannot be recorded: {str(error).splitlines()[0]}")


def test_a_batch_of_another_shape_ends_replaying(caplog):
    recorder = Recorder()
    run = GraphedPass(mean, recorder)
    values = [float(run(*batch(i, 3 if i == WARM_UP + 1 else 4))) for i in range(WARM_UP + 4)]
    assert values == [2.0 * i for i in range(WARM_UP + 4)]
    assert recorder.replayed == 1
    assert "a batch has the shape (3, 1, 2, 2)" in caplog.text


def test_a_wrong_setting_is_raised_and_not_taken_for_a_failed_recording():
    def broken(_pixels, _targets):
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        GraphedPass(broken, Recorder())(*batch(1))


@pytest.mark.parametrize("groups", ["pooled", "dro"])
def test_all_batches_of_a_fit_have_one_shape_and_a_recorded_fit_is_the_same_fit(make_params, rng, caplog, groups):
    targets = np.arange(43, dtype=np.int64) % 2
    cells = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    examples = Examples(cells, targets, np.arange(30), np.arange(30, 43), groups=np.arange(43) // 10)
    short = {"backbone": "compact", "epochs": 3, "batch_size": 8, "threads": 1, "groups": groups, "group_step": 0.1}
    settings = make_params({f"train.{name}": value for name, value in short.items()}).train

    def trained(recorder):
        loop = trainer.TrainingLoop(examples, 2, settings, 0)
        if recorder:
            loop._pass = GraphedPass(loop._compute_gradients, recorder)
        losses = [loop.run_epoch() | loop.validate() for _ in range(settings.epochs)]
        loop.close()
        return losses, list(loop.network.state_dict().values())

    recorder = Recorder()
    (losses, weights), (same, replayed) = trained(None), trained(recorder)
    assert recorder.replayed == 3 * 3 - WARM_UP
    assert losses == same
    assert all(torch.equal(one, other) for one, other in zip(weights, replayed, strict=True))
    assert not caplog.records


def test_a_recording_is_fed_by_copying_and_its_loss_is_a_copy(monkeypatch):
    """The calls of CUDA, which are made up: a replay runs on the memory of the recording."""
    recorded, loss = [], torch.zeros(())
    fakes = fake_graphs.install(monkeypatch, replay=lambda: loss.copy_(mean(*recorded)))
    first = batch(1)
    replay = record_graph(lambda pixels, targets: recorded.extend((pixels, targets)) or loss, *first)
    losses = [replay(*batch(i)) for i in range(3)]
    assert [float(value) for value in losses] == [0.0, 2.0, 4.0]
    assert torch.equal(first[0], batch(1)[0]), "the batch itself is not written to"
    assert fakes.said == ["graph", ("record", (0, 1), None, False), "recorded", *["replay"] * 3]


@pytest.mark.parametrize("balance", ["weights", "sampling", "none"])
@pytest.mark.parametrize("normalisation", ["contrast", "background", "fixed"])
@pytest.mark.parametrize("other", [{}, {"domain": "randomise_strongly", "groups": "dro"}])
def test_no_part_of_a_pass_waits_for_values_of_the_gpu(make_params, rng, balance, normalisation, other):
    """Tensors without values, of which PyTorch refuses what would have to wait for them, as a recording does."""
    cells = np.stack([draw_cell(rng, 60, 80) for _ in range(16)])
    examples = Examples(cells, np.arange(16) % 2, np.arange(16), np.arange(0), groups=np.arange(16) // 4)
    settings = other | {
        "backbone": "compact", "batch_size": 8, "threads": 1, "balance": balance, "normalisation": normalisation,
        "label_smoothing": 0.05, "dropout": 0.2, "max_shift": 2, "intensity": 0.1, "symmetries": True,
    }  # fmt: skip
    params = make_params({f"train.{name}": value for name, value in settings.items()}).train
    loop = trainer.TrainingLoop(examples, 2, params, 0)
    pixels, targets = torch.from_numpy(cells[:8, None].astype(np.float32)), torch.from_numpy(examples.targets[:8])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        groups = [mode.from_tensor(torch.arange(8) // 2)] if other else []
        assert loop._loss(mode.from_tensor(pixels), mode.from_tensor(targets), *groups).shape == ()
    loop.close()
