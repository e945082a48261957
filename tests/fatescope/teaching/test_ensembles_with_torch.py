"""The head of an ensemble, which reads the embeddings of all of its members."""

import numpy as np
import pytest
import torch

from fatescope.inference import bundle
from fatescope.networks import backbones, network
from fatescope.teaching.graph_edit import replace_head
from fatescope.teaching.head import Head
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import typical

SIZES = ((45, 60), (32, 40))


def member(size, classes=3):
    built = backbones.build("compact", "none", size, 1)
    return network.Network(built, classes, size, resize="pad", normalisation="contrast", dropout=0.0)


# The exporter says so of every layer that is split.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("join", ["embeddings", "probabilities"])
def test_an_ensemble_takes_a_head_on_all_embeddings(tmp_path, join):
    torch.manual_seed(0)
    joined = network.Ensemble([member(size) for size in SIZES], 3, "embeddings").eval()
    given = joined if join == "embeddings" else network.Ensemble(list(joined.members), 3, join).eval()
    network.export(given, CANVAS, tmp_path / "model.onnx")
    weight, bias = (value.detach().numpy() for value in (joined.linear.weight, joined.linear.bias))
    nothing = np.zeros((3, 25))
    head = Head("embedding", weight, nothing, nothing[0], nothing[0] + 1, bias)
    spec = bundle.read_spec(COMMITTED / "binary")
    (tmp_path / "taught.onnx").write_bytes(replace_head((tmp_path / "model.onnx").read_bytes(), head, spec))
    pixels = np.zeros((3, *CANVAS), np.uint16) + 480
    pixels[:, 7:52, 10:70] = np.stack([typical(seed)[:45, :60] for seed in range(3)])
    found = bundle.Graph(tmp_path / "taught.onnx", 1).predict(pixels)
    with torch.no_grad():
        expected = joined(torch.from_numpy(pixels[:, None].astype(np.float32)))
    assert np.allclose(found.logits, expected.logits, atol=1e-4)
    assert np.allclose(found.activation_map, expected.activation_map, atol=1e-4)
