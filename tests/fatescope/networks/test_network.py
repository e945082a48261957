from urllib.error import URLError

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
import torchvision
from safetensors.torch import load_model, save_file, save_model

from fatescope.errors import ParamsError
from fatescope.inference import bundle
from fatescope.networks import backbones, network, preprocessing, symmetry
from tests.support.images import draw_cell


def cells(rng, count=3):
    return torch.from_numpy(np.stack([draw_cell(rng, 60, 80) for _ in range(count)]).astype(np.float32))[:, None]


def make(name="compact", classes=3, input_size=(45, 60), resize="pad", normalisation="contrast", views="one"):
    torch.manual_seed(0)
    return network.Network(
        backbones.build(name, "none", input_size),
        classes,
        input_size,
        resize=resize,
        normalisation=normalisation,
        dropout=0.2,
        views=views,
    ).eval()


def test_normalisation_removes_illumination_and_gain(rng):
    pixels = cells(rng)
    expected = preprocessing.normalise(pixels, "contrast")
    torch.testing.assert_close(preprocessing.normalise(pixels * 1.7 + 250, "contrast"), expected, rtol=1e-3, atol=1e-3)


def test_padding_does_not_change_normalisation(rng):
    pixels = cells(rng)
    level = pixels[0].quantile(0.9)
    pixels[:, :, :4] = pixels[:, :, -4:] = pixels[:, :, :, :4] = pixels[:, :, :, -4:] = level
    padded = torch.nn.functional.pad(pixels, (10, 10, 10, 10), value=float(level))
    for how in ("contrast", "background"):
        inner = preprocessing.normalise(padded, how)[:, :, 10:-10, 10:-10]
        torch.testing.assert_close(inner, preprocessing.normalise(pixels, how))


def test_normalisation_by_background_keeps_how_dark_a_cell_is(rng):
    pixels = cells(rng)
    pixels[:, :, :2] = pixels[:, :, -2:] = pixels[:, :, :, :2] = pixels[:, :, :, -2:] = 700
    expected = preprocessing.normalise(pixels, "background")
    torch.testing.assert_close(preprocessing.normalise(pixels * 1.7, "background"), expected)
    faint = 700 + (pixels - 700) / 2
    torch.testing.assert_close(preprocessing.normalise(faint, "background"), expected / 2)
    torch.testing.assert_close(preprocessing.normalise(faint, "contrast"), preprocessing.normalise(pixels, "contrast"))


def test_a_fixed_level_does_not_follow_the_border():
    level = torch.tensor(700.0)
    images = torch.full((2, 1, 60, 80), 700.0)
    images[1] += 7  # a halo, or more light
    normalised = preprocessing.normalise(images, "fixed", level)
    torch.testing.assert_close(normalised.mean((1, 2, 3)), torch.tensor([0.0, preprocessing.SCALE / 100]))
    torch.testing.assert_close(normalised[:1], preprocessing.normalise(images[:1], "background"))


@pytest.mark.slow
def test_a_fixed_level_is_kept_with_the_weights(rng, tmp_path):
    model = make(normalisation="fixed")
    model.level.fill_(650.0)
    pixels = cells(rng)
    with torch.inference_mode():
        expected = model(pixels).logits
    save_model(model, str(tmp_path / "weights.safetensors"))
    loaded = make(normalisation="fixed")
    load_model(loaded, str(tmp_path / "weights.safetensors"))
    network.export(model, (60, 80), tmp_path / "model.onnx")
    graph = bundle.Graph(tmp_path / "model.onnx", threads=1).predict(pixels[:, 0].numpy().astype(np.uint16))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(pixels).logits, expected)
        assert not torch.allclose(loaded(pixels + 50).logits, expected, atol=1e-3)
    np.testing.assert_allclose(graph.logits, expected.numpy(), atol=bundle.TOLERANCE)


@pytest.mark.parametrize("how", ["contrast", "background"])
def test_a_blank_image_becomes_zeros(how):
    assert torch.equal(preprocessing.normalise(torch.full((1, 1, 60, 80), 500.0), how), torch.zeros(1, 1, 60, 80))


@pytest.mark.parametrize(("how", "inner"), [("pad", (45, 60)), ("stretch", (60, 60))])
def test_resize(how, inner):
    resized = preprocessing.resize(torch.ones(1, 1, 60, 80), (60, 60), how)
    assert resized.shape == (1, 1, 60, 60)
    assert (resized[0, 0] != 0).sum() == inner[0] * inner[1]


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_the_activation_map_adds_up_to_the_logits(rng, name):
    model = make(name, input_size=(75, 75))
    with torch.inference_mode():
        logits, embedding, activation = model(cells(rng))
        assert logits.shape == (3, 3)
        assert embedding.shape[1] == model.linear.in_features
        torch.testing.assert_close(activation.mean((2, 3)) + model.linear.bias, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("compact", (60, 60)), ("resnet18", (60, 60)), ("compact", (45, 60))])
def test_views_are_averaged_and_mirroring_the_cell_changes_nothing(rng, name, size):
    once, averaged = make(name, input_size=size), make(name, input_size=size, views="symmetries")
    averaged.load_state_dict(once.state_dict())
    averaged.temperature.fill_(2.0)
    pixels = cells(rng)
    with torch.inference_mode():
        outputs = averaged(pixels)
        symmetries = symmetry.symmetries_of(size, stretched=False)
        views = [once.forward_preprocessed(one.apply(once.preprocess(pixels))) for one in symmetries]
        mirrored = averaged(pixels.flip(3))
    torch.testing.assert_close(outputs.logits, torch.stack([view.logits for view in views]).mean(0) / 2)
    torch.testing.assert_close(outputs.embedding, torch.stack([view.embedding for view in views]).mean(0))
    torch.testing.assert_close(mirrored.logits, outputs.logits)
    torch.testing.assert_close(mirrored.activation_map, outputs.activation_map.flip(3), rtol=1e-4, atol=1e-4)
    added = outputs.activation_map.mean((2, 3)) + once.linear.bias / 2
    torch.testing.assert_close(added, outputs.logits, rtol=1e-4, atol=1e-4)


def test_the_temperature_scales_the_logits(rng):
    model, pixels = make(), cells(rng)
    with torch.inference_mode():
        before = model(pixels).logits
        model.temperature.fill_(2)
        torch.testing.assert_close(model(pixels).logits, before / 2)


@pytest.mark.parametrize("views", ["one", "symmetries"])
@pytest.mark.slow
def test_the_exported_graph_agrees_at_any_batch(rng, tmp_path, views):
    model = make(views=views)
    network.export(model, (60, 80), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        pixels = cells(rng, count)
        with torch.inference_mode():
            expected = model(pixels)
        for tensor, output in zip(expected, session.run(list(bundle.OUTPUTS), {"pixels": pixels.numpy()}), strict=True):
            np.testing.assert_allclose(output, tensor.numpy(), rtol=1e-4, atol=1e-4)


def test_a_grey_stem_equals_the_colour_stem_on_grey_images():
    colour = torch.nn.Conv2d(3, 8, 3)
    grey = backbones._grey_stem(colour)
    images = torch.rand(2, 1, 10, 10)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet19", "none", r"'resnet19' is not one of \['compact'"),
        ("resnet18", "/no/such/file", "neither none, nor imagenet, nor a file"),
        ("compact", "imagenet", "torchvision has none for the backbone compact"),
        ("inception_v3", "none", r"needs 75 px a side or more, got \[45, 60\]"),
    ],
)
def test_a_wrong_backbone_size_or_file_is_named(name, weights, message):
    with pytest.raises(ParamsError, match=message):
        backbones.build(name, weights, (45, 60))


@pytest.mark.parametrize(
    "failure",
    [URLError("no route to host"), ConnectionResetError("reset by peer"), RuntimeError('invalid hash value "12ab"')],
)
def test_a_failed_download_of_weights_is_reported(monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(torchvision.models, "get_model", fail)
    message = "imagenet weights of resnet18 cannot be downloaded .*; set train.weights to none or to the path"
    with pytest.raises(ParamsError, match=message):
        backbones.build("resnet18", "imagenet", (45, 60))


def test_weights_come_from_a_file(tmp_path):
    torch.manual_seed(1)
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    built = backbones.build("resnet18", str(tmp_path / "resnet18.pth"), (45, 60))
    torch.testing.assert_close(built.features[0].weight, model.conv1.weight.sum(1, keepdim=True))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ParamsError, match=r"does not hold the weights of resnet18: Error.* Missing key") as caught:
        backbones.build("resnet18", str(tmp_path / "other.pth"), (45, 60))
    assert len(str(caught.value)) < 500
    with pytest.raises(ParamsError, match="it holds those of resnet18; set train"):
        backbones.build("mobilenet_v2", str(tmp_path / "resnet18.pth"), (45, 60))
    save_file(model.state_dict(), tmp_path / "resnet18.safetensors")
    from_safetensors = backbones.build("resnet18", str(tmp_path / "resnet18.safetensors"), (45, 60))
    torch.testing.assert_close(from_safetensors.features[0].weight, built.features[0].weight)
    for name, content in {"a.pth": b"", "b.pth": b"text", "c.safetensors": b"text"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ParamsError, match=f"{name} cannot be read as weights"):
            backbones.build("resnet18", str(tmp_path / name), (45, 60))


def _half_of(state):
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: {**state, "1.bias": state["1.bias"] * float("nan")}, "1.bias that are not finite"),
        (lambda state: {**_half_of(state), "0.weight": state["0.weight"].half() / 0}, "0.weight that are not finite"),
        (lambda state: {**state, "0.weight": state["0.weight"].to(torch.int8)}, "0.weight as int8; save it"),
        (lambda state: {**state, "0.weight": state["0.weight"].to_sparse()}, "0.weight as sparse_coo; save it"),
        (lambda state: {**state, "0.weight": state["0.weight"].to(torch.complex64)}, "0.weight as complex64; save it"),
        (lambda state: {"model": dict(state)}, "'model' of the type dict, which is no weight; save the state dict"),
        (lambda state: {**state, "epoch": 3}, "'epoch' of the type int, which is no weight"),
        (lambda state: dict(enumerate(state.values())), "'0' of the type Tensor, which is no weight"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_no_network_can_begin_with_is_refused(tmp_path, damage, message):
    path, whole = tmp_path / "weights.pth", make("compact").features.state_dict()
    torch.save(damage(whole), path)
    with pytest.raises(ParamsError, match=rf"^train.weights: {path} holds.* {message}"):
        backbones.build("compact", str(path), (45, 60))


def test_half_precision_is_fine(tmp_path):
    single, path = make("compact"), tmp_path / "weights.pth"
    torch.save(_half_of(single.state_dict()), path)
    built = backbones.build("compact", str(path), (45, 60))
    torch.testing.assert_close(built.features[0].weight, single.features[0].weight, rtol=1e-3, atol=1e-3)


def test_a_path_that_the_system_refuses_is_told():
    with pytest.raises(ParamsError, match=r"^train.weights: 'aaa.* cannot be read: File name too long"):
        backbones.build("compact", "a" * 5000, (45, 60))


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_the_smallest_input_is_enough_and_a_smaller_one_is_told(name, stem):
    least = max(backbones.smallest_side(name, stem), 1)
    features = backbones.build(name, "none", (least, least + 1), 1, stem).features.eval()
    with torch.no_grad():
        assert 0 not in features(torch.rand(2, 1, least, least + 1)).shape
    if least > 1:
        with pytest.raises(ParamsError, match=f"{name} needs {least} px a side or more"):
            backbones.build(name, "none", (least + 1, least - 1), 1, stem)


def test_weights_come_from_a_bundle(tmp_path):
    """As where a laboratory continues from an earlier model, with other classes."""
    single, path = make("compact"), str(tmp_path / "weights.safetensors")
    save_model(single, path)
    built = backbones.build("compact", path, (45, 60))
    torch.testing.assert_close(built.features.state_dict(), single.features.state_dict())
    members = [make("compact"), make("mobilenet_v2", input_size=(60, 60))]
    save_model(network.Ensemble(members, 3, "probabilities"), path)
    built = backbones.build("mobilenet_v2", path, (45, 60))
    torch.testing.assert_close(built.features.state_dict(), members[1].features.state_dict())
    with pytest.raises(ParamsError, match="does not hold the weights of resnet18: it holds those of compact; set"):
        backbones.build("resnet18", path, (45, 60))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("join", "members"),
    [
        ("probabilities", {"compact": (45, 60), "resnet18": (60, 60)}),
        ("embeddings", {"compact": (45, 60), "resnet18": (60, 60)}),
        # That of the paper.
        pytest.param("embeddings", {"vgg19_bn": (60, 60), "inception_v3": (75, 75)}, marks=pytest.mark.slow),
    ],
)
def test_an_ensemble_is_one_graph(rng, tmp_path, join, members):
    members = [make(name, input_size=size) for name, size in members.items()]
    ensemble = network.Ensemble(members, 3, join).eval()
    network.export(ensemble, (60, 80), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = cells(rng)
    with torch.inference_mode():
        expected = ensemble(pixels)
        parts = [member(pixels) for member in members]
    for tensor, output in zip(expected, session.run(list(bundle.OUTPUTS), {"pixels": pixels.numpy()}), strict=True):
        np.testing.assert_allclose(output, tensor.numpy(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(expected.embedding, torch.cat([part.embedding for part in parts], dim=1))
    assert expected.activation_map.shape[2:] == max(part.activation_map.shape[2:] for part in parts)
    if join == "probabilities":
        mean = torch.stack([part.logits.softmax(1) for part in parts]).mean(0)
        torch.testing.assert_close(expected.logits.softmax(1), mean)
    else:
        with torch.inference_mode():
            torch.testing.assert_close(ensemble.linear(expected.embedding), expected.logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compact", "mobilenet_v3_large", "resnet18"])
def test_three_runtimes_agree(rng, tmp_path, name):
    """ONNX Runtime, OpenVINO and PyTorch give the same logits; `test_pipeline` compares bf16 on a trained network."""
    model = make(name)
    pixels = torch.cat([cells(rng, 8), (cells(rng, 8) * 1.3).round()])
    with torch.inference_mode():
        expected = model(pixels).logits.numpy()
    network.export(model, (60, 80), tmp_path / "model.onnx")
    ours = bundle.Graph(tmp_path / "model.onnx", threads=1).predict(pixels[:, 0].numpy().astype(np.uint16)).logits
    np.testing.assert_allclose(ours, expected, atol=bundle.TOLERANCE)
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(pixels.numpy())["logits"], expected, atol=bundle.TOLERANCE)
