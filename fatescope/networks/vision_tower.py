"""The vision tower of a LLaVA as one more backbone: what its language model sees, with the head of all others.

Its pixels are those of the pictures that a language model gets of a cell (`pipelines.language.pictures`), but for their
rounding to 8 bits.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fatescope.errors import ParamsError

NAME = "vision_tower"
MIDDLE, GREYS = 128, 32
"""Grey level of the background in a picture of 8 bits, and grey levels a unit of a normalised cell."""


class VisionTower(nn.Module):
    """A vision tower from normalised (B, 1, H, W) cells to the (B, D, h, w) map of its patches."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, tower: Any, layer: int, mean: list[float], deviation: list[float]) -> None:  # noqa: ANN401  transformers has no types here
        super().__init__()
        self.tower, self._layer = tower, layer
        self._grid = int(tower.config.image_size) // int(tower.config.patch_size)
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Return the feature map of normalised cells."""
        pictures = ((MIDDLE + GREYS * cells) / 255).clamp(0, 1)
        states = self.tower(
            pixel_values=(pictures - self.mean) / self.deviation, output_hidden_states=True
        ).hidden_states
        # A token of the whole image, where there is one, comes before those of the patches.
        patches = states[self._layer][:, -(self._grid**2) :]
        return cast("Tensor", patches.transpose(1, 2).unflatten(2, (self._grid, self._grid)))


def load(folder: Path, input_size: tuple[int, int], channels: int) -> tuple[VisionTower, int]:
    """Return the vision tower of the LLaVA in `folder`, and the number of channels of its map.

    Raises ParamsError where there is none, or for another input than its own.
    """
    from transformers import LlavaForConditionalGeneration  # noqa: PLC0415  of the extra `language`, and slow to import

    if channels != 1:
        raise ParamsError(f"train.backbone: {NAME} takes one channel, got {channels}; set dataset.channels to one")
    if not (folder / "config.json").is_file():
        raise ParamsError(f"train.weights: '{folder}' is no folder of a LLaVA, which the backbone {NAME} needs")
    try:
        # Weights that older folders name otherwise find their places in the whole model alone.
        whole = LlavaForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        mean, deviation = _normalisation(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ParamsError(f"train.weights: {folder} cannot be loaded as a LLaVA: {error}") from error
    tower, layer = whole.model.vision_tower, whole.config.vision_feature_layer
    side = int(tower.config.image_size)
    if tuple(input_size) != (side, side):
        raise ParamsError(
            f"train.input_size: the vision tower of {folder} takes {[side, side]}, got {list(input_size)}; set that"
        )
    last = layer if isinstance(layer, int) else layer[-1]
    return VisionTower(tower, last, mean, deviation), int(tower.config.hidden_size)


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Return the mean and deviation of each colour that the processor of a folder subtracts and divides by."""
    path = next(
        path for name in ("processor_config.json", "preprocessor_config.json") if (path := folder / name).is_file()
    )
    content = json.loads(path.read_text(encoding="utf-8"))
    settings = content.get("image_processor", content)
    return settings["image_mean"], settings["image_std"]
