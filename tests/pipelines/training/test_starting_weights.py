import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file, save_model
from torch import nn

from fatescope.networks.preprocessing import common_level
from pipelines.training import starting_weights, trainer
from pipelines.training.examples import Examples
from tests.support.images import draw_cell
from tests.support.project import SHARED

CELLS = 64


@pytest.fixture
def examples(rng):
    targets = np.array([0, 1] * (CELLS // 2), np.int64)
    pixels = np.stack([draw_cell(rng, 40, 40, radius=(8, 14)[t]) for t in targets])
    rows = np.arange(CELLS)
    return Examples(pixels, targets, rows, rows[:0])


@pytest.fixture
def settings(make_params):
    """Return the section `train` for a backbone with the weights of a file."""

    def settings(name, weights, **changes):
        fields = {"backbone": name, "weights": str(weights), "input_size": [40, 40], "threads": 1, "batch_size": 32}
        return make_params({f"train.{key}": value for key, value in {**fields, **changes}.items()}).train

    return settings


def learned(name, **options):
    """A model of torchvision with statistics that are no identity, as of training."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, **options)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.2, 2)
    return model.eval()


def folded(model):
    """Fold batch normalisation into the convolutions before, as tools for inference do, and round to float16."""
    convolution = None
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            convolution = layer
        elif isinstance(layer, nn.BatchNorm2d):
            slope = (layer.weight / (layer.running_var + layer.eps).sqrt()).detach()
            convolution.weight.data *= slope[:, None, None, None]
            layer.bias.data -= slope * layer.running_mean
            nn.init.ones_(layer.weight)
            layer.reset_running_stats()
    return {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}


@pytest.fixture
def folded_file(tmp_path):
    def write(name):
        save_file(folded(learned(name)), tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return write


def distance(one, other):
    return float((one - other).detach().norm() / other.detach().norm())


def images_of(network, examples):
    return network.preprocess(torch.from_numpy(examples.pixels.astype(np.float32))[:, None])


def outputs(network, examples, train):
    """The features of all cells as one batch, without a trace in the statistics."""
    before = {key: value.clone() for key, value in network.features.state_dict().items()}
    with torch.no_grad():
        features = network.features.train(train)(images_of(network, examples))
    network.features.load_state_dict(before)
    return features


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_folded_weights_compute_the_same_and_training_rescales_nothing(settings, folded_file, examples, name):
    network = trainer.build_network(settings(name, folded_file(name)), 2)
    layers = [layer for layer in network.features.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert starting_weights.find_folded(network.features) == layers
    network.photographs = False  # the scale of the input is changed on purpose
    computed = outputs(network, examples, train=False)
    assert distance(outputs(network, examples, train=True), computed) > 0.5
    starting_weights.adapt(network, examples.pixels, examples.train)
    assert distance(outputs(network, examples, train=False), computed) < 1e-4
    assert distance(outputs(network, examples, train=True), computed) < 1e-2
    assert starting_weights.find_folded(network.features) == []


@pytest.mark.parametrize("fold", [True, False])
def test_the_first_convolution_sees_cells_of_the_scale_of_photographs(settings, folded_file, tmp_path, examples, fold):
    path = folded_file("resnet18")
    if not fold:
        save_file(learned("resnet18").state_dict(), path := tmp_path / "whole.safetensors")
    plain, network = (trainer.build_network(settings("resnet18", path), 2).eval() for _ in range(2))
    starting_weights.adapt(network, examples.pixels, examples.train)
    images = images_of(network, examples)
    mean, spread = (-0.102, 0.452) if fold else (0.0, 1.0)
    as_photographs = (images - images.mean()) / images.std() * spread + mean
    with torch.no_grad():
        expected, got = plain.features[:2](as_photographs), network.features[:2](images)
    # The margin of the image is padded with background, and that of a photograph with grey.
    torch.testing.assert_close(got[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-3)


def test_weights_of_inception_see_cells_from_minus_one_to_one(settings, tmp_path, examples):
    """As its own first step in torchvision does to standardised photographs."""
    model = learned("inception_v3", init_weights=False)
    save_file(model.state_dict(), path := tmp_path / "inception.safetensors")
    params = settings("inception_v3", path, input_size=[75, 75])
    plain, network = (trainer.build_network(params, 2).eval() for _ in range(2))
    starting_weights.adapt(network, examples.pixels, examples.train)
    images = images_of(network, examples)
    standardised = ((images - images.mean()) / images.std()).expand(-1, 3, -1, -1)
    model.transform_input = True
    with torch.no_grad():
        as_photographs = model._transform_input(standardised)
        expected, got = model.Conv2d_1a_3x3(as_photographs), network.features[0](images)
        # To three colours of one brightness that moves each a little, and here all by the mean of what that is.
        assert distance(got, expected) < 0.1 < distance(plain.features[0](standardised[:, :1]), expected)


def test_statistics_of_training_stay(settings, tmp_path, examples):
    """Those of torchvision's weights, and of a model that is no photograph's at all."""
    save_file(learned("resnet18").state_dict(), tmp_path / "whole.safetensors")
    network = trainer.build_network(settings("resnet18", tmp_path / "whole.safetensors"), 2)
    assert starting_weights.find_folded(network.features) == []
    save_model(network, str(tmp_path / "bundle.safetensors"))
    of_cells = trainer.build_network(settings("resnet18", tmp_path / "bundle.safetensors"), 2)
    starting_weights.adapt(of_cells, examples.pixels, examples.train)
    torch.testing.assert_close(of_cells.features.state_dict(), network.features.state_dict(), rtol=0, atol=0)


def test_a_network_that_has_learned_nothing_has_nothing_to_keep(settings):
    assert starting_weights.find_folded(trainer.build_network(settings("resnet18", "none"), 2).features) == []


def test_a_blank_training_cell_is_no_division_by_zero(settings, folded_file, examples):
    network = trainer.build_network(settings("mobilenet_v2", folded_file("mobilenet_v2")), 2)
    starting_weights.adapt(network, np.full_like(examples.pixels, 500), examples.train)
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


@pytest.mark.parametrize("normalisation", ["contrast", "fixed"])
def test_a_frozen_backbone_stays_as_it_was_adapted(settings, folded_file, examples, normalisation):
    params = settings("mobilenet_v2", folded_file("mobilenet_v2"), freeze=True, epochs=2, normalisation=normalisation)
    expected = trainer.build_network(params, 2)
    if expected.level is not None:
        expected.level.copy_(common_level(examples.pixels, examples.train))
    starting_weights.adapt(expected.to(memory_format=torch.channels_last), examples.pixels, examples.train)
    fitted = trainer.fit(examples, 2, params, 0, lambda *_: None).network
    torch.testing.assert_close(fitted.features.state_dict(), expected.features.state_dict())
    torch.manual_seed(0)
    assert not torch.equal(fitted.linear.weight, trainer.build_network(params, 2).linear.weight)
    tuned = trainer.fit(examples, 2, params.changed({"freeze": False}), 0, lambda *_: None).network
    assert distance(tuned.features[0][0].weight, expected.features[0][0].weight) > 1e-4


def test_the_real_weights_of_imagenet_load_and_stay_what_they_are(settings, examples):
    path = SHARED / "mobilenet_v2_imagenet.safetensors"
    if not path.exists():
        pytest.skip(f"the real file is not here: {path}")
    network = trainer.build_network(settings("mobilenet_v2", path), 2)
    assert len(starting_weights.find_folded(network.features)) == 52
    starting_weights.match_photographs(network, [images_of(network, examples)], centred=True)
    computed = outputs(network, examples, train=False)
    assert distance(outputs(network, examples, train=True), computed) > 0.5
    starting_weights.unfold(
        network.eval(),
        [layer for layer in network.features.modules() if isinstance(layer, nn.BatchNorm2d)],
        [images_of(network, examples)],
    )
    assert distance(outputs(network, examples, train=False), computed) < 1e-4
    assert distance(outputs(network, examples, train=True), computed) < 1e-2
