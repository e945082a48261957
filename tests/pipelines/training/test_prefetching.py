"""Batches that a thread gathers ahead, on a CPU: the same ones in the same order, with buffers used again."""

import itertools
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from pipelines.training import trainer
from pipelines.training.examples import Examples
from pipelines.training.prefetching import SLOTS, PrefetchLoader
from tests.support.images import draw_cell

CPU = torch.device("cpu")


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 65536, (40, 6, 8)).astype(np.uint16)


def batches_of(rng, count=12, size=7):
    return [np.sort(rng.choice(40, size - (i == count - 1), replace=False)) for i in range(count)]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("shape", [(6, 8), (2, 6, 8)])
def test_batches_come_in_their_order_with_their_pixels_for_several_epochs(rng, shape):
    pixels = rng.integers(0, 65536, (40, *shape)).astype(np.uint16)
    loader = PrefetchLoader(pixels, CPU)
    for _ in range(3):
        batches = batches_of(rng)
        # All at once, so that slots have been filled again when they are compared.
        loaded = list(loader.load_batches(batches))
        assert len(loaded) == len(batches)
        for rows, batch in zip(batches, loaded, strict=True):
            np.testing.assert_array_equal(batch.rows, rows)
            expected = pixels[rows].astype(np.float32)
            np.testing.assert_array_equal(batch.pixels.numpy(), expected if len(shape) == 3 else expected[:, None])
    assert threads() == []


def test_an_array_on_disk_is_read_as_one_in_memory(pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    np.testing.assert_array_equal(PrefetchLoader(mapped, CPU)(np.array([3, 0]))[:, 0].numpy(), pixels[[3, 0]])


def test_a_few_buffers_are_used_again(pixels, rng):
    loader, places = PrefetchLoader(pixels, CPU), set()
    for _ in range(3):
        for _ in loader.load_batches(batches_of(rng)):
            pass
        places |= {slot._host.data_ptr() for slot in loader._slots}
    assert len(loader._slots) == len(places) == SLOTS


def test_no_more_is_gathered_ahead_than_there_are_buffers(pixels, rng):
    asked = []

    def counted():
        for rows in batches_of(rng):
            asked.append(len(asked))
            yield rows

    loaded = PrefetchLoader(pixels, CPU, slots=2).load_batches(counted())
    next(loaded)
    # The two buffers are filled again, and the thread holds the rows of the next one.
    assert len(asked) <= 1 + 2 + 1
    assert 1 + len(list(loaded)) == len(asked) == 12


def test_an_epoch_that_is_left_ends_the_thread_and_the_next_one_starts_anew(pixels, rng):
    loader, batches = PrefetchLoader(pixels, CPU), batches_of(rng)
    loaded = loader.load_batches(batches)
    np.testing.assert_array_equal(next(loaded).rows, batches[0])
    loaded.close()
    assert threads() == []
    assert [batch.rows.tolist() for batch in loader.load_batches(batches)] == [rows.tolist() for rows in batches]


def test_what_the_batches_raise_is_raised_where_they_are_used(pixels):
    def broken():
        yield np.array([1])
        raise ValueError("no more cells")

    loader = PrefetchLoader(pixels, CPU)
    loaded = loader.load_batches(broken())
    next(loaded)
    with pytest.raises(ValueError, match="no more cells"):
        next(loaded)
    assert threads() == []
    assert len(list(loader.load_batches([np.array([2])]))) == 1


@pytest.mark.parametrize("row", [40, -1])
def test_a_row_that_there_is_not_is_an_error(pixels, row):
    with pytest.raises(IndexError, match=rf"rows {row} to {row} of 40"):
        PrefetchLoader(pixels, CPU)(np.array([row]))


def test_a_fit_on_prefetched_batches_is_the_same_fit(make_params, rng, monkeypatch):
    targets = np.arange(48, dtype=np.int64) % 2
    cells = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    rows, reports = np.arange(48), []
    examples = Examples(cells, targets, rows[:32], rows[32:])
    short = {"backbone": "compact", "epochs": 2, "batch_size": 8, "threads": 1}
    settings = make_params({f"train.{name}": value for name, value in short.items()}).train

    def fitted():
        fit = trainer.fit(examples, 2, settings, 0, lambda _, metrics: reports.append(metrics))
        return list(fit.network.state_dict().values())

    plain = fitted()

    def opened(pixels, parts, device):
        return [PrefetchLoader(pixels, device) for _ in parts]

    monkeypatch.setattr(trainer, "open_loaders", opened)
    prefetched = fitted()
    assert all(torch.equal(one, other) for one, other in zip(plain, prefetched, strict=True))
    assert reports[:2] == reports[2:]
    assert threads() == []


class Timeline:
    """The streams and events of a GPU that is made up: it notes in which order they are used, and copies at once."""

    def __init__(self, monkeypatch):
        self.calls, timeline = [], self
        events = itertools.count()

        class Event:
            def __init__(self, blocking):
                assert blocking
                self.name = ("copied", "taken")[next(events) % 2]

            def synchronize(self):
                timeline.calls.append(f"thread waits: {self.name}")

            def record(self, stream):
                timeline.calls.append(f"{stream.name}: {self.name}")

        class Stream:
            def __init__(self, _device, name="copies"):
                self.name = name

            def wait_event(self, event):
                timeline.calls.append(f"{self.name} waits: {event.name}")

        empty, computes = torch.empty, Stream(None, "computes")
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: computes)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: self.calls.append(f"kept: {stream.name}"))
        monkeypatch.setattr(
            torch,
            "empty",
            lambda shape, *, dtype, pin_memory=False, device=None: self.note(
                empty(shape, dtype=dtype), pin_memory=pin_memory, device=device
            ),
        )

    def note(self, tensor, *, pin_memory, device):
        """Note where memory is taken."""
        if tensor.numel():
            self.calls.append("page-locked memory" if pin_memory else f"memory on {device}")
        return tensor


def test_on_a_gpu_no_buffer_is_written_to_before_it_was_read(pixels, monkeypatch):
    timeline = Timeline(monkeypatch)
    batches = [np.array([1, 2]), np.array([3]), np.array([7, 39])]
    loader = PrefetchLoader(pixels, torch.device("cuda"), slots=1)
    loaded = list(loader.load_batches(batches))
    for rows, batch in zip(batches, loaded, strict=True):
        np.testing.assert_array_equal(batch.pixels[:, 0].numpy(), pixels[rows])
    once = [
        "thread waits: copied",
        "copies waits: taken",
        "copies: copied",
        "computes waits: copied",
        "computes: taken",
        "kept: computes",
    ]
    # Both buffers are made for the first batch, and used for the others.
    assert timeline.calls == [once[0], "page-locked memory", "memory on cuda", *once[1:], *once, *once]
