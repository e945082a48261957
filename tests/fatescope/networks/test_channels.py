"""Networks that see several channels: each is normalised in its own way, and the exported graph takes all of them."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fatescope.errors import ParamsError
from fatescope.inference import bundle
from fatescope.networks import backbones, network, preprocessing
from tests.support.images import draw_cell

KINDS = ("brightfield", "darkfield")


def cells(rng, count=3):
    """Return (count, 2, 60, 80) cells: a dark disc, and a bright one on a dark background."""
    both = [[draw_cell(rng, 60, 80), 1000 - draw_cell(rng, 60, 80, level=940)] for _ in range(count)]
    return torch.from_numpy(np.array(both).astype(np.float32))


@pytest.mark.parametrize("how", ["contrast", "background", "fixed"])
def test_each_channel_is_normalised_as_its_kind_asks(rng, how):
    pixels = cells(rng)
    level, unit = torch.tensor([650.0, 60.0])[:, None, None], torch.tensor([1.0, 40.0])[:, None, None]
    found = preprocessing.normalise(pixels, how, level, KINDS, unit)
    alone = preprocessing.normalise(pixels[:, :1], how, level[0])
    torch.testing.assert_close(found[:, :1], alone)
    frame = torch.cat(
        [pixels[0, 1, :2].flatten(), pixels[0, 1, -2:].flatten(), pixels[0, 1, 2:-2, [0, 1, -2, -1]].flatten()]
    )
    scatter = torch.asinh((pixels[0, 1] - frame.sort().values[len(frame) // 2]) / 40)
    torch.testing.assert_close(found[0, 1], scatter)


def test_darkfield_keeps_how_much_a_cell_scatters_whatever_the_offset_of_the_camera(rng):
    pixels = cells(rng, 1)
    unit = torch.ones(2, 1, 1) * 40
    weak = preprocessing.normalise(pixels + torch.tensor([0.0, 300.0])[:, None, None], "contrast", None, KINDS, unit)
    strong = preprocessing.normalise(pixels * torch.tensor([1.0, 3.0])[:, None, None], "contrast", None, KINDS, unit)
    known = preprocessing.normalise(pixels, "contrast", None, KINDS, unit)
    torch.testing.assert_close(weak, known, atol=1e-3, rtol=1e-3)
    assert strong[0, 1].max() > known[0, 1].max() + 0.5


def test_two_brightfield_channels_have_a_level_each(rng):
    pixels = np.stack([np.stack([draw_cell(rng, 60, 80), draw_cell(rng, 60, 80, level=400)]) for _ in range(5)])
    level = preprocessing.common_level(pixels, np.arange(5))
    assert level.shape == (2, 1, 1)
    assert level[:, 0, 0].tolist() == pytest.approx([700, 400], abs=2)
    images = torch.from_numpy(pixels.astype(np.float32))
    found = preprocessing.normalise(images, "fixed", level, ("brightfield", "brightfield"))
    for place in (0, 1):
        alone = preprocessing.normalise(images[:, place : place + 1], "fixed", level[place])
        torch.testing.assert_close(found[:, place : place + 1], alone)


def test_the_unit_of_scatter_is_that_of_the_cells(rng):
    pixels = cells(rng, 20).numpy().astype(np.uint16)
    unit = preprocessing.common_unit(pixels, np.arange(20))
    assert unit.shape == (2, 1, 1)
    # Within the disc it is 200 brighter than around it; noise makes the unit smaller.
    assert 100 < unit[1, 0, 0] < 220
    padded = np.stack([np.pad(p, ((0, 0), (10, 10), (10, 10)), mode="edge") for p in pixels])
    assert preprocessing.common_unit(padded, np.arange(20))[1, 0, 0] == pytest.approx(float(unit[1, 0, 0]), rel=0.15)


@pytest.mark.parametrize(
    ("name", "views", "count"),
    # Symmetries and ensembles do not depend on the backbone, and a graph of MobileNet takes long to write.
    [("compact", "one", 2), ("compact", "symmetries", 2), ("mobilenet_v2", "one", 1)],
)
def test_the_graph_takes_all_channels_and_any_number_of_cells(rng, tmp_path, name, views, count):
    torch.manual_seed(0)
    how = {"resize": "pad", "normalisation": "contrast", "dropout": 0.0, "views": views, "kinds": KINDS}
    members = [
        network.Network(backbones.build(name, "none", (45, 60), 2), 3, (45, 60), **how).eval() for _ in range(count)
    ]
    for member in members:
        member.unit.fill_(50)
    for model in (*members[:1], *([network.Ensemble(members, 3, "probabilities").eval()] if count > 1 else [])):
        network.export(model, (60, 80), tmp_path / "model.onnx", channels=2)
        graph = bundle.Graph(tmp_path / "model.onnx", 1)
        for size in (1, 3):
            pixels = cells(rng, size)
            with torch.no_grad():
                expected = model(pixels).logits
            found = graph.predict(pixels.numpy().astype(np.uint16)).logits
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-3)


def test_the_stem_of_several_channels_keeps_what_it_has_learned_of_colours():
    colour = torch.nn.Conv2d(3, 8, 3)
    stem = backbones._grey_stem(colour, 2)
    images = torch.rand(2, 1, 10, 10)
    torch.testing.assert_close(stem(images.expand(-1, 2, -1, -1)), colour(images.expand(-1, 3, -1, -1)))


def test_weights_of_one_channel_are_none_of_two(tmp_path):
    one = backbones.build("compact", "none", (45, 60))
    state = {f"features.{name}": value for name, value in one.features.state_dict().items()}
    save_file(state | {"temperature": torch.ones(())}, tmp_path / "weights.safetensors")
    with pytest.raises(ParamsError, match="does not hold the weights of compact with 2 channels"):
        backbones.build("compact", str(tmp_path / "weights.safetensors"), (45, 60), 2)
