"""The stem for small crops: its map, its weights, and the bundles that have none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_model

from fatescope.config.names import BRIGHTFIELD
from fatescope.errors import ParamsError
from fatescope.inference import bundle
from fatescope.networks import backbones, network
from fatescope.networks.stems import SMALL


def make(name, stem, size=(60, 60)):
    torch.manual_seed(0)
    built = backbones.build(name, "none", size, stem=stem)
    return network.Network(built, 3, size, resize="pad", normalisation="contrast", dropout=0.0).eval()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_small_stem_leaves_eight_by_eight_positions_of_a_cell(name):
    with torch.inference_mode():
        outputs = make(name, "small")(torch.rand(1, 1, 50, 60) * 1000)
    assert outputs.activation_map.shape == (1, 3, 8, 8)


def test_compact_is_the_same_with_both():
    one, other = (make("compact", stem) for stem in ("standard", "small"))
    assert [tuple(p.shape) for p in one.parameters()] == [tuple(p.shape) for p in other.parameters()]


def test_inception_takes_small_crops_with_the_small_stem_alone():
    with pytest.raises(ParamsError, match="inception_v3 needs 75 px a side or more"):
        backbones.build("inception_v3", "none", (60, 60))
    assert backbones.build("inception_v3", "none", (45, 60), stem="small").channels == 768


def test_weights_of_the_standard_stem_fit_the_small_one_but_not_the_reverse(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    colours = torchvision.models.mobilenet_v2(weights=None)
    torch.save(colours.state_dict(), tmp_path / "colours.pth")
    built = backbones.build("mobilenet_v2", str(tmp_path / "colours.pth"), (45, 60), stem="small")
    torch.testing.assert_close(built.features[13].state_dict(), colours.features[13].state_dict())
    standard = make("resnet18", "standard")
    save_model(standard, path)
    built = backbones.build("resnet18", path, (45, 60), stem="small")
    torch.testing.assert_close(built.features.state_dict(), standard.features[:-1].state_dict())
    save_model(make("resnet18", "small"), path)
    with pytest.raises(ParamsError, match="does not hold the weights of resnet18"):
        backbones.build("resnet18", path, (45, 60))
    with pytest.raises(ParamsError, match="does not hold the weights of mobilenet_v2"):
        backbones.build("mobilenet_v2", path, (45, 60), stem="small")


@pytest.mark.parametrize("stem", [None, "standard", "small"])
def test_a_bundle_is_restored_with_its_stem_and_one_of_before_with_the_standard(tmp_path, stem):
    fit = {"backbone": "resnet18", "input_size": [60, 60], "resize": "pad", "normalisation": "contrast", "dropout": 0.0}
    fit |= {} if stem is None else {"stem": stem}
    model = make("resnet18", stem or "standard")
    save_model(model, str(tmp_path / "weights.safetensors"))
    spec = SimpleNamespace(
        params={"train": [fit]}, kinds=(BRIGHTFIELD,), classes=["a", "b", "c"], join=None, taught=None
    )
    pixels = torch.rand(2, 1, 60, 60) * 1000
    with torch.inference_mode():
        restored, expected = network.restore(spec, tmp_path / "weights.safetensors")(pixels), model(pixels)
    torch.testing.assert_close(restored.activation_map, expected.activation_map)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg19_bn", "inception_v3"])
def test_the_graph_of_a_small_stem_agrees(rng, tmp_path, name):
    """Of the two whose pooling changes its padding or its rounding."""
    model = make(name, "small", (45, 60))
    network.export(model, (60, 80), tmp_path / "model.onnx")
    pixels = rng.integers(0, 1000, (3, 60, 80)).astype(np.uint16)
    found = bundle.Graph(tmp_path / "model.onnx", 1).predict(pixels)
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels[:, None].astype(np.float32)))
    np.testing.assert_allclose(found.activation_map, expected.activation_map.numpy(), rtol=1e-3, atol=1e-3)
