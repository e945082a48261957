import onnx
import pytest
import torch
from torch import nn

from fatescope.networks import backbones, network
from pipelines.training import layers, trainer


def pair(**changes):
    """A plain convolution, and one with the same parameters that multiplies matrices."""
    torch.manual_seed(0)
    plain = nn.Conv2d(**{"in_channels": 5, "out_channels": 7, "kernel_size": 3, "padding": 1, **changes})
    other = nn.Conv2d(**{"in_channels": 5, "out_channels": 7, "kernel_size": 3, "padding": 1, **changes})
    other.load_state_dict(plain.state_dict())
    layers.speed_up(other)
    assert isinstance(other, layers.SmallMapConv2d)
    return plain, other.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("size", "how"),
    [
        ((2, 2), {}),
        ((3, 3), {"bias": False}),
        ((4, 4), {"stride": 2}),
        ((5, 4), {"stride": (2, 1)}),
        ((2, 6), {"kernel_size": (1, 7), "padding": (0, 3)}),
        ((6, 2), {"kernel_size": (7, 1), "padding": (3, 0)}),
        ((5, 5), {"padding": 0}),
        ((1, 1), {}),
        ((9, 9), {}),
    ],
)
def test_outputs_and_gradients_are_those_of_a_convolution(size, how):
    plain, other = pair(**how)
    found = []
    for conv in (plain, other):
        torch.manual_seed(1)
        images = torch.randn(3, 5, *size, requires_grad=True)
        out = conv(images)
        out.square().sum().backward()
        found.append([out, images.grad, *(each.grad for each in conv.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def convolutions(run):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::convolution")


def test_it_is_for_small_maps_alone():
    _, other = pair()
    assert convolutions(lambda: other(torch.zeros(1, 5, 3, 3))) == 0
    assert convolutions(lambda: other(torch.zeros(1, 5, 4, 4))) == 1


@pytest.mark.parametrize(
    "how", [{"kernel_size": 1, "padding": 0}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "circular"}]
)
def test_other_convolutions_stay_as_they_are(how):
    conv = nn.Conv2d(**{"in_channels": 5, "out_channels": 7, "kernel_size": 3, "padding": 1, **how})
    grouped = nn.Conv2d(6, 6, 3, groups=3)
    for each in (conv, grouped):
        layers.speed_up(each)
        assert type(each) is nn.Conv2d


@pytest.mark.parametrize("trains", [True, False])
def test_depthwise_convolutions_are_in_float32_while_they_train(trains):
    """In bfloat16 their backward pass takes most of the time of a step."""
    torch.manual_seed(0)
    plain, other = nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3, groups=6).requires_grad_(trains)
    other.load_state_dict(plain.state_dict())
    layers.speed_up(other)
    images = torch.randn(2, 6, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        out = other(images.bfloat16() if trains else images)
    assert out.dtype == (torch.float32 if trains else torch.bfloat16)
    torch.testing.assert_close(out.float(), plain(images), rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg19_bn", "inception_v3"])
def test_a_network_says_the_same(make_params, name):
    size = [75, 75] if name == "inception_v3" else [60, 60]
    settings = make_params({"train.backbone": name, "train.input_size": size}).train
    fast = trainer.build_network(settings, 2).eval()
    assert any(isinstance(each, layers.SmallMapConv2d) for each in fast.modules())
    how = {"resize": settings.resize, "normalisation": settings.normalisation, "dropout": settings.dropout}
    plain = network.Network(backbones.build(name, "none", settings.input_size), 2, settings.input_size, **how).eval()
    plain.load_state_dict(fast.state_dict())
    pixels = torch.randint(400, 700, (2, 1, 60, 80)).float()
    with torch.inference_mode():
        torch.testing.assert_close(fast(pixels).logits, plain(pixels).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_what_is_exported_are_convolutions(make_params, tmp_path):
    made = trainer.build_network(make_params({"train.backbone": "resnet18"}).train, 2)
    network.export(made, (60, 80), tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    # One more than the backbone has: the activation map.
    assert kinds.count("Conv") == 1 + sum(isinstance(each, nn.Conv2d) for each in made.modules())
