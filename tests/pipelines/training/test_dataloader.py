"""Where the pixels of batches are kept: in the memory of a GPU that is made up, as its driver and PyTorch count it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pipelines.training import dataloader, device, distributed
from pipelines.training.dataloader import open_loaders, open_stream

GPU = torch.device("cuda")
CELL_BYTES = 2 * 6 * 8
ROWS = np.arange(100), np.arange(100, 140)
"""Training and validation cells."""


@dataclass
class Card:
    """The memory of a GPU, in cells."""

    total: int
    others: int = 0
    """Taken by other processes."""
    allocated: int = 0
    cached: int = 0
    """Freed tensors, which PyTorch keeps."""

    def keep(self, _pixels, rows, _device):
        """Take memory for `rows`, from what is cached first."""
        if len(rows) > self.total - self.others - self.allocated:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.cached = max(0, self.cached - len(rows))
        self.allocated += len(rows)
        return f"{len(rows)} kept"

    def free(self):
        """End a fit."""
        self.cached, self.allocated = self.cached + self.allocated, 0


@pytest.fixture
def make_card(monkeypatch):
    """Return what puts in a card with memory for so many cells."""

    def make(total, **used):
        card = Card(total, **used)

        def in_bytes(cells):
            return CELL_BYTES * cells

        def driver_free(_):
            return in_bytes(card.total - card.others - card.allocated - card.cached)

        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (driver_free(_), in_bytes(card.total)))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: in_bytes(card.allocated + card.cached))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: in_bytes(card.allocated))
        monkeypatch.setattr(dataloader, "DeviceLoader", card.keep)
        monkeypatch.setattr(dataloader, "PrefetchLoader", lambda *_: "streamed")
        return card

    return make


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 65536, (140, 6, 8)).astype(np.uint16)


def test_free_is_what_the_driver_has_and_what_pytorch_has_freed(make_card):
    make_card(1000, others=300, allocated=200, cached=100)
    assert device.free_memory(GPU) == 500 * CELL_BYTES


def test_cells_stay_on_the_gpu_in_every_fit(make_card, pixels):
    card = make_card(400)
    for _ in range(3):
        assert open_loaders(pixels, ROWS, GPU) == ["100 kept", "40 kept"]
        assert card.allocated == 140
        card.free()
        # Activations and gradients too were freed, and all of it is used for the driver.
        card.cached = 390
        assert torch.cuda.mem_get_info(GPU)[0] == 10 * CELL_BYTES


@pytest.mark.parametrize(
    ("others", "kept"),
    [
        (0, ["100 kept", "40 kept"]),
        (110, ["100 kept", "40 kept"]),
        (121, ["100 kept", "streamed"]),
        (200, ["streamed", "40 kept"]),
        (321, ["streamed", "streamed"]),
    ],
)
def test_pixels_take_half_of_what_other_processes_leave_and_training_cells_come_first(make_card, pixels, others, kept):
    make_card(400, others=others)
    assert open_loaders(pixels, ROWS, GPU) == kept


def test_the_process_with_the_least_memory_decides_for_all(make_card, pixels, monkeypatch):
    make_card(400)
    monkeypatch.setattr(distributed, "smallest", lambda own: min(own, 250 * CELL_BYTES))
    assert open_loaders(pixels, ROWS, GPU) == ["100 kept", "streamed"]


def test_memory_that_is_taken_in_the_meantime_is_no_error(make_card, pixels, monkeypatch, caplog):
    make_card(400, others=350)
    monkeypatch.setattr(dataloader, "free_memory", lambda _: 400 * CELL_BYTES)
    assert open_loaders(pixels, ROWS, GPU) == ["streamed", "40 kept"]
    assert "100 cells do not fit into the memory of the GPU" in caplog.text


def test_a_single_pass_does_not_keep_pixels(make_card, pixels):
    make_card(400)
    assert open_stream(pixels, GPU) == "streamed"


def test_on_a_cpu_pixels_stay_in_the_memory_map(pixels):
    loaders = open_loaders(pixels, ROWS, torch.device("cpu"))
    assert [type(loader) for loader in loaders] == [dataloader.MemmapLoader] * 2
    [batch] = loaders[0].load_batches([np.array([3, 7])])
    np.testing.assert_array_equal(batch.rows, [3, 7])
    np.testing.assert_array_equal(batch.pixels.numpy(), pixels[[3, 7], None].astype(np.float32))


def test_a_loader_that_keeps_its_cells_yields_the_same_batches(rng):
    pixels = rng.integers(0, 65536, (20, 2, 6, 8)).astype(np.uint16)
    loader = dataloader.DeviceLoader(pixels, np.arange(5, 20), torch.device("cpu"))
    batches = [np.array([5, 9]), np.array([19])]
    for rows, batch in zip(batches, loader.load_batches(batches), strict=True):
        np.testing.assert_array_equal(batch.pixels.numpy(), pixels[rows].astype(np.float32))
