"""Engines with networks that are built here: these tests need PyTorch, those of test_engines do not."""

import numpy as np
import pytest
import torch

from fatescope.inference import bundle
from fatescope.networks import backbones, network
from service.inference import engines
from tests.support.bundles import CANVAS
from tests.support.images import draw_cell
from tests.support.predictions import assert_agree
from tests.support.untrained import write_bundle

PIXELS = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "binary"
    write_bundle(folder, "binary", ["a", "o"])
    return folder


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
@pytest.mark.slow
def test_engines_agree_on_all_outputs(folder, name):
    expected = bundle.load(folder, threads=1).predict(PIXELS)
    assert_agree(engines.ENGINES[name](folder, 1).predict(PIXELS), expected)


@pytest.mark.slow
def test_an_ensemble_is_split_before_the_first_convolution_of_each_member(tmp_path):
    torch.manual_seed(0)
    members = [
        network.Network(
            backbones.build(name, "none", size),
            3,
            size,
            resize="pad",
            normalisation=normalisation,
            dropout=0.0,
            views="symmetries",
        ).eval()
        for name, size, normalisation in (("compact", (45, 60), "contrast"), ("resnet18", (60, 60), "background"))
    ]
    network.export(network.Ensemble(members, 3, "embeddings"), CANVAS, tmp_path / bundle.GRAPH)
    expected = bundle.Graph(tmp_path / bundle.GRAPH, 1).predict(PIXELS)
    prediction = engines.OpenVino(tmp_path, "f32", 1).predict(PIXELS)
    assert_agree(prediction, expected)
