"""Make weights from elsewhere fit to be trained on cells, before the first step.

- A backbone that learned from photographs takes pixels of another brightness and contrast than cells have after
  normalisation. What it computes, and what its activations cut off, depends on that scale, so that the first
  convolution is given another unit: it then sees cells with the mean and the standard deviation of photographs.
- Weights for inference often have batch normalisation folded into the convolutions: its statistics are mean 0 and
  variance 1, whatever passes through it. Inference is right with them, but training normalises by the statistics of
  the batch, and would rescale every layer. These layers are given the statistics of the training cells, and the weight
  and bias under which they compute the same as before.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fatescope.networks.network import Network
from fatescope.networks.precision import full_precision
from pipelines.training.batches import Indices
from pipelines.training.dataloader import open_stream

CELLS = 2000
"""Training cells that the statistics are taken of: each has hundreds of positions."""
BATCH = 128
IDENTITY = 1e-3
"""How far from 1 the variances of folded layers are: they are 1, or 1 less the epsilon of the layer, rounded."""
PHOTOGRAPHS = (0.449, 0.226)
"""Mean and standard deviation of the brightness of ImageNet's photographs, where black is 0 and white is 1."""


@torch.no_grad()
def adapt(network: Network, pixels: npt.NDArray[np.uint16], rows: Indices) -> None:
    """Match the input of `network` to photographs if it learned from them, and unfold its batch normalisation.

    `rows` of `pixels` are the training cells; every process gets the same result.
    """
    folded = find_folded(network.features)
    if not network.photographs and not folded:
        return
    network.eval()
    device = network.temperature.device
    load, sample = open_stream(pixels, device), rows[:: max(1, len(rows) // CELLS)]

    def images() -> Iterator[Tensor]:
        batches = (sample[start : start + BATCH] for start in range(0, len(sample), BATCH))
        return (network.preprocess(batch.pixels) for batch in load.load_batches(batches))

    with full_precision(device):
        if network.photographs:
            match_photographs(network, images(), centred=network.centred or bool(folded))
        if folded:
            unfold(network, folded, images())


def find_folded(features: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the layers with the statistics of nothing: mean 0 and variance 1.

    Those without any bias are as they were initialised, and have nothing to keep.
    """
    return [
        layer
        for layer in features.modules()
        if isinstance(layer, nn.BatchNorm2d)
        and not _present(layer.running_mean).any()
        and ((_present(layer.running_var) - 1).abs() <= IDENTITY + layer.eps).all()
        and layer.bias.any()
    ]


@torch.no_grad()
def match_photographs(network: Network, images: Iterable[Tensor], centred: bool) -> None:
    """Have the first convolution see preprocessed `images` with the mean and the spread of photographs.

    Weights for inference take x / 127.5 - 1 (`centred`, from -1 to 1), as torchvision's Inception does; others of
    torchvision take the standardised pixel.
    What lies outside of the image counts as background.
    """
    mean, variance = _Moments.of(images)
    brightness, contrast = PHOTOGRAPHS
    target, spread = (2 * brightness - 1, 2 * contrast) if centred else (0.0, 1.0)
    scale = spread / variance.sqrt().clamp_min(1e-6)
    offset = target - scale * mean
    stem = next(layer for layer in network.features.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in network.features.modules() if isinstance(layer, nn.BatchNorm2d))
    # The offset is the same at all positions, so that it can be left to what follows the convolution.
    _present(norm.running_mean).sub_((stem.weight.sum((2, 3)) * offset).sum(1))
    stem.weight.mul_(scale[:, None, None])
    network.photographs = False


@torch.no_grad()
def unfold(network: Network, layers: list[nn.BatchNorm2d], images: Iterable[Tensor]) -> None:
    """Give `layers` the statistics of their inputs for preprocessed `images`, and keep what they compute.

    One pass suffices for all layers, because none of them changes the input of another.
    """
    moments = {layer: _Moments() for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: moments[layer].add(inputs[0])) for layer in layers]
    try:
        for batch in images:
            network.features(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, inputs in moments.items():
        mean, variance = inputs.result()
        known_mean, known_variance = _present(layer.running_mean), _present(layer.running_var)
        slope = layer.weight / (known_variance + layer.eps).sqrt()
        layer.bias.add_(slope * (mean - known_mean))
        layer.weight.copy_(slope * (variance + layer.eps).sqrt())
        known_mean.copy_(mean)
        known_variance.copy_(variance)


class _Moments:
    """Mean and variance of each channel over all batches, in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    @classmethod
    def of(cls, images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        moments = cls()
        for batch in images:
            moments.add(batch)
        return moments.result()

    def add(self, images: Tensor) -> None:
        # Fifty times as fast on a CPU as `var_mean` over the same axes.
        mean, variance = (each.double() for each in torch.batch_norm_update_stats(images, None, None, 0.0))
        count = images.numel() // images.shape[1]
        self._count += count
        self._sum = self._sum + count * mean
        self._squares = self._squares + count * (variance + mean * mean)

    def result(self) -> tuple[Tensor, Tensor]:
        mean, squares = torch.as_tensor(self._sum / self._count), torch.as_tensor(self._squares / self._count)
        return mean.float(), (squares - mean * mean).clamp_min(0).float()


def _present(statistics: Tensor | None) -> Tensor:
    assert statistics is not None, "no backbone has batch normalisation without statistics"
    return statistics
