"""Batches that a thread gathers while a GPU computes."""

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from threading import Event, Thread

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fatescope.networks.preprocessing import widen
from pipelines.training.batches import Batch, Indices

SLOTS = 3
"""Batches in memory at once: one in use, one that is copied, one that is gathered."""


class PrefetchLoader:
    """Gathers the next batches in a thread, into page-locked buffers that are used again and again.

    They are copied to the GPU on a stream of their own while it computes. On a CPU, where the tests run this, there is
    nothing to copy.
    """

    def __init__(self, pixels: npt.NDArray[np.uint16], device: torch.device, slots: int = SLOTS) -> None:
        self._pixels = pixels
        self._slots = [_Slot(device) for _ in range(slots)]
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __call__(self, rows: Indices) -> Tensor:
        """Load `rows`."""
        [batch] = self.load_batches([rows])
        return batch.pixels

    def load_batches(self, batches: Iterable[Indices]) -> Iterator[Batch]:
        """Yield the rows of each of `batches` with their pixels, in their order; `batches` is iterated in the thread.

        What it raises, or reading raises, is raised here. One such iteration at a time.
        """
        slots, self._slots = self._slots, []
        assert slots, "another iteration goes on"
        free, ready, stop = SimpleQueue[_Slot | None](), SimpleQueue[_Gathered](), Event()
        for slot in slots:
            free.put(slot)
        thread = Thread(target=self._gather, args=(batches, free, ready, stop), name="prefetch", daemon=True)
        thread.start()
        try:
            while (gathered := ready.get()) is not None:
                if isinstance(gathered, BaseException):
                    raise gathered
                rows, slot = gathered
                pixels = slot.take(len(rows))
                free.put(slot)
                yield Batch(rows, pixels)
        finally:
            stop.set()
            free.put(None)
            thread.join()
            self._slots = slots

    def _gather(
        self,
        batches: Iterable[Indices],
        free: "SimpleQueue[_Slot | None]",
        ready: "SimpleQueue[_Gathered]",
        stop: Event,
    ) -> None:
        """Fill slots until the batches end, or whoever takes them stops."""
        try:
            for rows in batches:
                slot = free.get()
                if slot is None or stop.is_set():
                    return
                slot.fill(self._pixels, rows, self._stream)
                ready.put((rows, slot))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that waits for the batch
            ready.put(error)


class _Slot:
    """A buffer of the host and one of the device, for one batch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = self._staged = torch.empty(0, dtype=torch.int16)
        on_gpu = device.type == "cuda"
        # Blocking, because the thread that waits for it must not take a core from the one that launches kernels.
        self._copied, self._taken = (torch.cuda.Event(blocking=True) if on_gpu else None for _ in range(2))  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def fill(self, pixels: npt.NDArray[np.uint16], rows: Indices, stream: torch.cuda.Stream | None) -> None:
        """Gather `rows`, and let `stream` copy them to the GPU."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(pixels):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(pixels)}")
        if self._copied is not None:
            self._copied.synchronize()
        if len(self._host) < len(rows):
            self._reserve((len(rows), *pixels.shape[1:]), stream)
        # With any other mode, NumPy gathers into memory of its own first.
        np.take(pixels, rows, axis=0, out=self._host[: len(rows)].numpy().view(np.uint16), mode="clip")
        if stream is not None and self._taken is not None and self._copied is not None:
            with torch.cuda.stream(stream):
                stream.wait_event(self._taken)
                self._staged[: len(rows)].copy_(self._host[: len(rows)], non_blocking=True)
                self._copied.record(stream)

    def _reserve(self, shape: tuple[int, ...], stream: torch.cuda.Stream | None) -> None:
        self._host = self._staged = torch.empty(shape, dtype=torch.int16, pin_memory=stream is not None)
        if stream is not None:
            with torch.cuda.stream(stream):
                self._staged = torch.empty(shape, dtype=torch.int16, device=self._device)

    def take(self, count: int) -> Tensor:
        """Return the pixels of the batch, which stay what they are when the slot is filled again."""
        if self._copied is None or self._taken is None:
            return widen(self._staged[:count])
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied)
        pixels = widen(self._staged[:count])
        self._taken.record(stream)
        # So that its memory is not given away before this stream has read it.
        self._staged.record_stream(stream)
        return pixels


_Gathered = tuple[Indices, _Slot] | BaseException | None
"""A batch in its slot, what gathering raised, or the end."""
