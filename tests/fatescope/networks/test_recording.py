"""Recording a CUDA graph; the calls of CUDA are made up, as there is no GPU here."""

import pytest
import torch

from fatescope.networks.recording import NotRecordedError, record
from tests.support import fake_graphs


def test_what_was_recorded_is_returned_with_its_graph(monkeypatch):
    fakes = fake_graphs.install(monkeypatch)
    graph, result = record(lambda: "results", (0, 7), "a stream")
    assert (graph, result) == (fakes, "results")
    assert fakes.said == ["graph", ("record", (0, 7), "a stream", False), "recorded"]


def test_a_failed_recording_leaves_stream_generator_and_memory_as_they_were_and_tells_the_first_error(monkeypatch):
    fakes = fake_graphs.install(monkeypatch)
    untouched = torch.Generator().manual_seed(0)

    def run():
        torch.rand(3, generator=fakes.generator.numbers)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    with pytest.raises(NotRecordedError, match=r"^CUDA error: operation not permitted when stream is capturing$"):
        record(run, (0, 7))
    assert fakes.stream == "the stream of before"
    assert fakes.said[-1] == ("end", 0, (0, 7))
    assert torch.equal(torch.rand(3, generator=fakes.generator.numbers), torch.rand(3, generator=untouched))
