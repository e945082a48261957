"""Preprocessing, backbone and head as one module: raw pixels in, logits, embedding and activation map out.

`Network` is one CNN; `Ensemble` combines several into one module with the same outputs.

Preprocessing is part of the module, and so of the exported graph: training and serving cannot disagree.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn import functional

from fatescope.config.names import BRIGHTFIELD, DARKFIELD, ChannelKind
from fatescope.errors import BundleError
from fatescope.inference.bundle import OPSET, OUTPUTS, Spec
from fatescope.networks import backbones, vision_tower
from fatescope.networks.backbones import Backbone
from fatescope.networks.preprocessing import normalise, resize
from fatescope.networks.symmetry import is_stretched, symmetries_of


class Outputs(NamedTuple):
    """The outputs of a network for (B, C, H, W) cells."""

    logits: Tensor
    """(B, K), divided by the temperature."""
    embedding: Tensor
    """(B, C): the feature map averaged over positions."""
    activation_map: Tensor
    """(B, K, h, w): the contribution of each position to each logit (class activation map, Zhou et al. 2016).

    (B, K, 0, 0) where it was not asked for.
    """


class Network(nn.Module):
    """A backbone between fixed preprocessing and a head of global average pooling, dropout and one linear layer."""

    temperature: Tensor

    def __init__(  # noqa: PLR0913  what a network is
        self,
        backbone: Backbone,
        classes: int,
        input_size: tuple[int, int],
        *,
        resize: str,
        normalisation: str,
        dropout: float,
        views: str = "one",
        kinds: Sequence[ChannelKind] = (BRIGHTFIELD,),
    ) -> None:
        super().__init__()
        self.features = backbone.features
        self.photographs, self.centred = backbone.photographs, backbone.centred
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(backbone.channels, classes)
        self.register_buffer("temperature", torch.ones(()))
        # The common background level of each channel, counts, for the normalisation `fixed`, and the unit of scatter,
        # counts, for darkfield; other networks have no such weights.
        self.level: Tensor | None
        self.unit: Tensor | None
        scales = () if len(kinds) == 1 else (len(kinds), 1, 1)
        self.register_buffer("level", torch.ones(scales) if normalisation == "fixed" else None)
        self.register_buffer("unit", torch.ones((len(kinds), 1, 1)) if DARKFIELD in kinds else None)
        self._kinds = tuple(kinds)
        self._input_size, self._resize, self._normalisation = input_size, resize, normalisation
        self.views = views

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Normalise and resize (B, C, H, W) raw pixels on their canvas to the input size."""
        normalised = normalise(pixels, self._normalisation, self.level, self._kinds, self.unit)
        return resize(normalised, self._input_size, self._resize)

    def forward(self, pixels: Tensor, maps: bool = True) -> Outputs:
        """Classify (B, C, H, W) raw pixels, float32 counts on a canvas; without `maps`, none are computed."""
        return self.forward_head(self.forward_features(pixels), maps)

    def forward_preprocessed(self, images: Tensor) -> Outputs:
        """Classify images that `preprocess` returned, without averaging over views."""
        return self.forward_head(self.features(images))

    def forward_resized(self, images: Tensor) -> Tensor:
        """Return the feature map of normalised (B, C, H, W) images of any size, without averaging over views."""
        return cast("Tensor", self.features(resize(images, self._input_size, self._resize)))

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Return the (B, C, h, w) feature map of raw pixels, the mean over their `views` after inverting each symmetry.

        Everything after the feature map is linear, so that logits and activation map are means over the views too.
        """
        images = self.preprocess(pixels)
        if self.views == "one":
            return cast("Tensor", self.features(images))
        symmetries = symmetries_of(self._input_size, is_stretched(pixels.shape[2:], self._input_size, self._resize))
        # In one batch, so that the graph has the backbone once.
        features = self.features(torch.cat([symmetry.apply(images) for symmetry in symmetries]))
        maps = features.unflatten(0, (len(symmetries), -1)).unbind()
        aligned = [symmetry.invert(view) for view, symmetry in zip(maps, symmetries, strict=True)]
        return torch.stack(aligned).mean(0)

    def forward_head(self, feature_map: Tensor, maps: bool = True) -> Outputs:
        """Return the outputs for a (B, C, h, w) feature map; without `maps`, none are computed."""
        embedding = feature_map.mean((2, 3))
        logits = self.linear(self.dropout(embedding)) / self.temperature
        if not maps:
            return Outputs(logits, embedding, _no_maps(logits))
        activation = functional.conv2d(feature_map, self.linear.weight[:, :, None, None]) / self.temperature
        return Outputs(logits, embedding, activation)


class Ensemble(nn.Module):
    """Several networks as one: the paper's idea of VGG joined with Inception (arXiv 2312.06665).

    `probabilities` averages those of the members; `embeddings` puts one new linear layer on all of their embeddings.
    The activation map is the mean of the members', or their sum under that layer, on the grid of the finest.
    """

    temperature: Tensor
    linear: nn.Linear | None

    def __init__(self, members: list[Network], classes: int, join: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._widths = [member.linear.in_features for member in members]
        # The members keep their own linear layers in either case.
        self.linear = nn.Linear(sum(self._widths), classes) if join == "embeddings" else None
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pixels: Tensor, maps: bool = True) -> Outputs:
        """Classify (B, C, H, W) raw pixels, float32 counts on a canvas; without `maps`, none are computed."""
        members = cast("list[Network]", list(self.members))
        return self._join([member.forward_features(pixels) for member in members], maps)

    def forward_preprocessed(self, images: Tensor) -> Outputs:
        """Classify images that a member's `preprocess` returned, without maps and without averaging over views.

        All members must be normalised in the same way; images are resized to the input of each.
        """
        return self._join([cast("Network", member).forward_resized(images) for member in self.members], maps=False)

    def _join(self, features: list[Tensor], maps: bool) -> Outputs:
        """Return the outputs for the (B, C, h, w) feature maps of the members."""
        members = cast("list[Network]", list(self.members))
        embeddings = [feature_map.mean((2, 3)) for feature_map in features]
        embedding = torch.cat(embeddings, dim=1)
        if self.linear is not None:
            weights = torch.split(self.linear.weight, self._widths, dim=1)
            logits, share = self.linear(embedding), 1.0
        else:
            heads = [member.linear for member in members]
            probabilities = [functional.softmax(head(x), dim=1) for head, x in zip(heads, embeddings, strict=True)]
            logits = torch.stack(probabilities).mean(0).clamp_min(1e-12).log()
            weights, share = tuple(head.weight for head in heads), 1.0 / len(heads)
        if not maps:
            return Outputs(logits / self.temperature, embedding, _no_maps(logits))
        activations = [functional.conv2d(x, w[:, :, None, None]) for x, w in zip(features, weights, strict=True)]
        finest = max((activation.shape[2:] for activation in activations), key=lambda size: int(size[0]) * int(size[1]))
        resized = [functional.interpolate(x, size=finest, mode="bilinear", align_corners=False) for x in activations]
        return Outputs(logits / self.temperature, embedding, share * torch.stack(resized).sum(0) / self.temperature)


def _no_maps(logits: Tensor) -> Tensor:
    return logits.new_empty((*logits.shape, 0, 0))


def restore(spec: Spec, weights: Path) -> Network | Ensemble:
    """Build the network of a bundle with its `weights`, in evaluation mode, to run it without the ONNX graph.

    Raises BundleError for a head that was taught to read simple features of the cell, which a network does not have.
    """
    if spec.taught is not None and spec.taught.reads != "embedding":
        raise BundleError(
            f"{weights}: its head reads simple features of the cell, and only the graph computes these; run it in "
            "another engine than PyTorch"
        )
    members = []
    for fit in spec.params["train"]:
        size = (fit["input_size"][0], fit["input_size"][1])
        # The shape of a vision tower is in its folder alone.
        source = fit["weights"] if fit["backbone"] == vision_tower.NAME else "none"
        # Bundles of before there were several stems, or several views, have none.
        backbone = backbones.build(fit["backbone"], source, size, len(spec.kinds), fit.get("stem", "standard"))
        how = {name: fit[name] for name in ("resize", "normalisation", "dropout")}
        members.append(
            Network(backbone, len(spec.classes), size, **how, views=fit.get("views", "one"), kinds=spec.kinds)
        )
    network = members[0] if spec.join is None else Ensemble(members, len(spec.classes), spec.join)
    load_model(network, str(weights))
    return network.eval()


def export(network: Network | Ensemble, canvas: tuple[int, int], path: Path, channels: int = 1) -> None:
    """Write `network` as an ONNX graph that takes any number of cells of `channels` on `canvas` (height, width)."""
    network = network.cpu().eval()
    # Two cells, because a trace with one would fix the batch size at one.
    example = torch.rand(2, channels, *canvas) * 1000
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=["pixels"],
        output_names=list(OUTPUTS),
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None, "torch returns what it exported with `dynamo`"
    # PyTorch names constants and what is computed by their operators; a vision tower has an `embedding` of its own.
    graph = program.model.graph
    constants = graph.initializers
    for name in OUTPUTS:
        if name in constants:
            constant = constants.pop(name)
            constant.name = f"constant_{name}"
            constants.add(constant)
    outputs = [id(output) for output in graph.outputs]
    for computed in (value for node in graph for value in node.outputs):
        if computed.name in OUTPUTS and id(computed) not in outputs:
            computed.name = f"inner_{computed.name}"
    program.save(str(path), external_data=False)
