"""The calls of PyTorch by which work is recorded as a CUDA graph, without CUDA; what they are told is kept."""

from contextlib import contextmanager

import torch


class FakeGenerator:
    """A generator of the CPU with the methods of one of CUDA."""

    def __init__(self):
        self.numbers = torch.Generator().manual_seed(0)

    def clone_state(self):
        return self.numbers.get_state()

    def graphsafe_set_state(self, state):
        self.numbers.set_state(state)


class FakeGraphs:
    """What was said to CUDA, in order."""

    def __init__(self, replay=None):
        """`replay` is what a recorded graph does."""
        self.said, self.stream = [], "the stream of before"
        self.generator = FakeGenerator()
        self._replay = replay

    def graph(self):
        self.said.append("graph")
        return self

    def replay(self):
        self.said.append("replay")
        if self._replay:
            self._replay()

    @contextmanager
    def record(self, graph, pool, stream, capture_error_mode):
        assert (graph, capture_error_mode) == (self, "thread_local")
        self.said.append(("record", pool, stream, torch.backends.cudnn.benchmark))
        self.stream = "the stream of the recording"
        try:
            yield
        except RuntimeError as error:
            # As PyTorch: the recording cannot be ended, and its stream stays.
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        self.stream = "the stream of before"
        self.said.append("recorded")

    def set_stream(self, stream):
        self.stream = stream

    def end(self, device, pool):
        self.said.append(("end", device, pool))


def install(monkeypatch, replay=None):
    """Have PyTorch record graphs on a GPU that is none."""
    fakes = FakeGraphs(replay)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: fakes.stream)
    monkeypatch.setattr(torch.cuda, "set_stream", fakes.set_stream)
    monkeypatch.setattr(torch.cuda, "default_generators", (fakes.generator,))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fakes.graph)
    monkeypatch.setattr(torch.cuda, "graph", fakes.record)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", fakes.end)
    return fakes
