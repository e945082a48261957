"""Normalisation, backbone and head as one module: raw pixels in, logits, embedding and activation map out.

`Network` is one CNN; `Ensemble` joins several into one module with the same outputs.

Preprocessing is part of the module, and so of the exported graph: training and serving cannot disagree.
"""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn import functional

from fatescope.data.images import FRAME, background
from fatescope.inference.bundle import OPSET, OUTPUTS, Spec
from fatescope.networks import backbones
from fatescope.networks.backbones import Backbone
from fatescope.networks.symmetry import is_stretched, symmetries_of

_LIFT = 8.0
"""Brings the share of light that a cell takes away, often an eighth, to the size that a CNN expects."""

LEVELS = 1000
"""Cells whose backgrounds say what level is common to all."""


class Outputs(NamedTuple):
    """What the network says of (B, 1, H, W) cells."""

    logits: Tensor
    """(B, K), divided by the temperature."""
    embedding: Tensor
    """(B, C): the feature map averaged over positions."""
    activation_map: Tensor
    """(B, K, h, w): what each position adds to each logit (class activation map, Zhou et al. 2016)."""


class Network(nn.Module):
    """A backbone between fixed preprocessing and a head of global average pooling, dropout and one linear layer."""

    temperature: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        input_size: tuple[int, int],
        *,
        resize: str,
        normalisation: str,
        dropout: float,
        views: str = "one",
    ) -> None:
        super().__init__()
        self.features = backbone.features
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(backbone.channels, classes)
        self.register_buffer("temperature", torch.ones(()))
        # Of the training cells, where all cells are seen beside it; weights of other networks do not have it.
        self.level: Tensor | None
        self.register_buffer("level", torch.ones(()) if normalisation == "fixed" else None)
        self._input_size, self._resize, self._normalisation = input_size, resize, normalisation
        self.views = views

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Normalise and resize (B, 1, H, W) raw pixels on their canvas to the input size."""
        return resize(normalise(pixels, self._normalisation, self.level), self._input_size, self._resize)

    def forward(self, pixels: Tensor) -> Outputs:
        """Classify (B, 1, H, W) raw pixels, float32 counts on a canvas."""
        return self.forward_head(self.forward_features(pixels))

    def forward_preprocessed(self, images: Tensor) -> Outputs:
        """Classify images that `preprocess` made, looking once at each."""
        return self.forward_head(self.features(images))

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Return the (B, C, h, w) feature map of raw pixels, the mean of their `views` turned back.

        All that is made of it is linear, so that logits and activation map are means over the views too.
        """
        images = self.preprocess(pixels)
        if self.views == "one":
            return cast("Tensor", self.features(images))
        symmetries = symmetries_of(self._input_size, is_stretched(pixels.shape[2:], self._input_size, self._resize))
        # As one batch: the graph has the backbone once.
        seen = self.features(torch.cat([symmetry.apply(images) for symmetry in symmetries]))
        maps = seen.unflatten(0, (len(symmetries), -1)).unbind()
        return torch.stack([symmetry.invert(each) for each, symmetry in zip(maps, symmetries, strict=True)]).mean(0)

    def forward_head(self, feature_map: Tensor) -> Outputs:
        """Return the outputs for a (B, C, h, w) feature map."""
        embedding = feature_map.mean((2, 3))
        logits = self.linear(self.dropout(embedding)) / self.temperature
        activation = functional.conv2d(feature_map, self.linear.weight[:, :, None, None]) / self.temperature
        return Outputs(logits, embedding, activation)


class Ensemble(nn.Module):
    """Several networks as one: the paper's idea of VGG joined with Inception (arXiv 2312.06665).

    `probabilities` averages what the members say; `embeddings` puts one new linear layer on all of their embeddings.
    The activation map is the mean of the members', or their sum under that layer, on the grid of the finest.
    """

    temperature: Tensor
    linear: nn.Linear | None

    def __init__(self, members: list[Network], classes: int, join: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._widths = [each.linear.in_features for each in members]
        # Made for both, so that the members' own layers stay what they were.
        self.linear = nn.Linear(sum(self._widths), classes) if join == "embeddings" else None
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pixels: Tensor) -> Outputs:
        """Classify (B, 1, H, W) raw pixels, float32 counts on a canvas."""
        members = cast("list[Network]", list(self.members))
        maps = [each.forward_features(pixels) for each in members]
        embeddings = [each.mean((2, 3)) for each in maps]
        embedding = torch.cat(embeddings, dim=1)
        if self.linear is not None:
            weights = torch.split(self.linear.weight, self._widths, dim=1)
            logits, share = self.linear(embedding), 1.0
        else:
            heads = [each.linear for each in members]
            each_says = [functional.softmax(head(x), dim=1) for head, x in zip(heads, embeddings, strict=True)]
            logits = torch.stack(each_says).mean(0).clamp_min(1e-12).log()
            weights, share = tuple(head.weight for head in heads), 1.0 / len(heads)
        activations = [functional.conv2d(x, w[:, :, None, None]) for x, w in zip(maps, weights, strict=True)]
        finest = max((each.shape[2:] for each in activations), key=lambda size: int(size[0]) * int(size[1]))
        fitted = [functional.interpolate(x, size=finest, mode="bilinear", align_corners=False) for x in activations]
        return Outputs(logits / self.temperature, embedding, share * torch.stack(fitted).sum(0) / self.temperature)


def restore(spec: Spec, weights: Path) -> Network | Ensemble:
    """Build the network of a bundle with its `weights`, in evaluation mode, to run without the graph."""
    members = []
    for fit in spec.params["train"]:
        size = (fit["input_size"][0], fit["input_size"][1])
        backbone = backbones.build(fit["backbone"], "none", size)
        how = {name: fit[name] for name in ("resize", "normalisation", "dropout")}
        # Bundles of before there were several have none.
        members.append(Network(backbone, len(spec.classes), size, **how, views=fit.get("views", "one")))
    network = members[0] if spec.join is None else Ensemble(members, len(spec.classes), spec.join)
    load_model(network, str(weights))
    return network.eval()


def normalise(pixels: Tensor, how: str, level: Tensor | None = None) -> Tensor:
    """Remove the lamp from (B, 1, H, W) raw pixels, each image by itself; or, with `fixed`, leave it in.

    The level is the median of the border, where there is background. `contrast` divides the deviation from it by its
    own size (L2 norm squared over L1 norm, which padding does not change): lamp, gain and black level are gone, and
    with them how dark a cell is. `background` divides by the level: what is left is the share of light that the cell
    takes away, which needs a camera whose black level is near zero. A blank image becomes zeros.

    `fixed` is `background` by one `level` (counts) for all images. Out of focus, the halo of a cell reaches the border
    and lifts its level by more than the cell takes away; here it stays where it is. The lamp stays too: use it where
    the audit finds nothing in the background.
    """
    if how == "fixed":
        assert level is not None, "fixed is by a level"
        return (pixels - level) * (_LIFT / level)
    own = _border_median(pixels)
    deviation = pixels - own
    if how == "background":
        return deviation * (_LIFT / own.clamp_min(1.0))
    size = deviation.abs()
    contrast = (deviation * deviation).sum((2, 3), keepdim=True) / size.sum((2, 3), keepdim=True).clamp_min(1e-6)
    return deviation / contrast.clamp_min(1e-6)


def common_level(pixels: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> float:
    """Return the median background, counts, of up to LEVELS of the `rows` of (N, H, W) pixels, for `fixed`."""
    some = rows[:: max(1, len(rows) // LEVELS)]
    return float(np.median(background(pixels[some])))


def resize(images: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """Bring normalised (B, 1, H, W) images to `size` (height, width): `stretch`, or `pad` with background (zero)."""
    height, width = images.shape[2:]
    scale = min(size[0] / height, size[1] / width)
    inner = size if how == "stretch" else (round(height * scale), round(width * scale))
    if inner != (height, width):
        images = functional.interpolate(images, size=inner, mode="bilinear", align_corners=False)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    if inner != size:
        images = functional.pad(images, (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top))
    return images


def export(network: Network | Ensemble, canvas: tuple[int, int], path: Path) -> None:
    """Write `network` as an ONNX graph that takes any number of cells on `canvas`."""
    network = network.cpu().eval()
    # Two cells, because an export traced with one would fix the batch at one.
    example = torch.rand(2, 1, *canvas) * 1000
    torch.onnx.export(
        network,
        (example,),
        str(path),
        dynamo=True,
        external_data=False,
        input_names=["pixels"],
        output_names=list(OUTPUTS),
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        verbose=False,
    )


def _border_median(pixels: Tensor) -> Tensor:
    """Return the median of the outer FRAME px of (B, 1, H, W) images as (B, 1, 1, 1)."""
    inner = pixels[:, :, FRAME:-FRAME, :]
    parts = (pixels[:, :, :FRAME, :], pixels[:, :, -FRAME:, :], inner[:, :, :, :FRAME], inner[:, :, :, -FRAME:])
    frame = torch.cat([part.flatten(1) for part in parts], dim=1)
    middle = frame.shape[1] // 2
    if torch.compiler.is_exporting():
        # ONNX has no selection; the sort gives the same number.
        return frame.sort(dim=1).values[:, middle, None, None, None]
    return frame.kthvalue(middle + 1, dim=1).values[:, None, None, None]
