"""A backbone of Fatescope as the vision encoder of a LLaVA: its feature maps, position by position, as tokens.

A backbone that was trained on classes has lost much of the rest by its last stage: of the mean over positions of that,
a linear model tells the third of the focus in 75 % of validation cells, of all stages in 85 %. So a token has the mean
of each earlier stage over its position too.

Importing this module makes the model type known to transformers; folders with such an encoder need it, others do not.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from fatescope.networks import backbones

TYPE = "fatescope_backbone"


class EncoderConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers has no types here
    """Which backbone it is, and of what size its images are."""

    model_type = TYPE
    backbone: str = "compact"
    hidden_size: int = 224
    """Channels of its feature maps, all stages together."""
    image_size: int = 60
    patch_size: int = 8
    """Pixels of the image for one position of the feature map."""


class Encoder(PreTrainedModel):  # type: ignore[misc]  # likewise
    """A backbone from (B, 3, H, W) pictures, whose colours are equal, to (B, N, D) tokens."""

    config_class = EncoderConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        size = (config.image_size, config.image_size)
        self.features = cast("torch.nn.Sequential", backbones.build(config.backbone, "none", size).features)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as the backbone initialises them."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:  # noqa: ANN401  flags that LLaVA passes on
        """Return the tokens as the only hidden state."""
        maps, images = list[Tensor](), pixel_values.mean(1, keepdim=True)
        for layer in self.features:
            images = layer(images)
            # Each stage ends by halving.
            if isinstance(layer, torch.nn.MaxPool2d):
                maps.append(images)
        coarsest = len(maps) - 1
        pooled = [functional.avg_pool2d(stage, 2 ** (coarsest - i)) for i, stage in enumerate(maps)]
        tokens = torch.cat(pooled, 1).flatten(2).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


AutoConfig.register(TYPE, EncoderConfig)
AutoModel.register(EncoderConfig, Encoder)
