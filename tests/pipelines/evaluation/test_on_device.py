"""Bundles that run on a GPU, for which the CPU stands here: its errors and its agreement with the graph."""

import dataclasses

import numpy as np
import pytest
import torch

from fatescope.errors import BundleError
from fatescope.inference import bundle
from pipelines.evaluation import on_device
from pipelines.evaluation.on_device import ExactNetwork
from tests.support.untrained import write_bundle

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(folder, "binary", ["a", "b"])
    return folder


@pytest.fixture
def on_cpu(monkeypatch):
    """Let the CPU stand for a GPU."""
    monkeypatch.setattr(on_device, "ExactNetwork", lambda folder, _: ExactNetwork(folder, torch.device("cpu")))


def test_without_a_gpu_the_graph_runs(folder):
    model = on_device.load(folder, 1)
    assert isinstance(model._engine, bundle.Graph)


@pytest.mark.usefixtures("on_cpu")
def test_a_gpu_runs_the_network_and_says_what_the_graph_says(folder):
    model, graph = on_device.load(folder, 1, GPU), bundle.load(folder, 1)
    assert isinstance(model._engine, ExactNetwork)
    # Some of them above 32,767, as cameras of 16 bit count.
    pixels = np.concatenate([graph.example, graph.example * 60])
    assert pixels.max() > 40_000
    ours, theirs = model.predict(pixels), graph.predict(pixels)
    for name in ("logits", "embedding", "activation_map"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=bundle.TOLERANCE)
    assert model._engine.predict(pixels, maps=False).activation_map.shape == (8, 2, 0, 0)
    assert model.assess(ours).verdicts.tolist() == graph.assess(theirs).verdicts.tolist()


@pytest.mark.usefixtures("on_cpu")
def test_a_gpu_that_does_not_reproduce_the_test_tensors_is_not_used(folder, monkeypatch, caplog):
    predict = ExactNetwork.predict

    def rounded(self, pixels, **options):
        prediction = predict(self, pixels, **options)
        return dataclasses.replace(prediction, logits=prediction.logits + 0.01)

    monkeypatch.setattr(ExactNetwork, "predict", rounded)
    assert isinstance(on_device.load(folder, 1, GPU)._engine, bundle.Graph)
    assert "it runs on the CPU, not on cuda: the test tensors do not reproduce" in caplog.text


def test_a_gpu_that_fails_is_not_used(folder, monkeypatch, caplog):
    def broken(_folder, _device):
        raise torch.AcceleratorError("CUDA error: no kernel image\nmore")

    monkeypatch.setattr(on_device, "ExactNetwork", broken)
    assert isinstance(on_device.load(folder, 1, GPU)._engine, bundle.Graph)
    assert caplog.messages[0].endswith("CUDA error: no kernel image")


def test_a_damaged_bundle_is_refused_on_any_device(tmp_path):
    with pytest.raises(BundleError):
        on_device.load(tmp_path, 1, GPU)
