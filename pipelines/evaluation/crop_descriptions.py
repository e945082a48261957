"""What the audit describes of crops: all descriptions of the acquisition, in each channel."""

from collections.abc import Sequence

import numpy as np

from fatescope.data.dataset import crop
from pipelines.evaluation import confounding, instrument
from pipelines.evaluation.confounding import Floats


def describe_crops(canvases: Floats, sizes: Sequence[tuple[int, int]], channels: list[str]) -> dict[str, Floats]:
    """Return description → (n, F) features of the cells on (n, C, H, W) canvases.

    `sizes` are heights and widths of their crops, px, and `channels` the names of the channels; descriptions of those
    after the first have the name of the channel behind them.
    """
    described = [
        _describe_channels(crop(canvas, height, width), channels)
        for canvas, (height, width) in zip(canvases, sizes, strict=True)
    ]
    return {name: np.stack([of_cell[name] for of_cell in described]) for name in described[0]}


def _describe_channels(native: Floats, names: list[str]) -> dict[str, Floats]:
    """Return the descriptions of a (C, H, W) crop."""
    described: dict[str, Floats] = {}
    for place, channel in enumerate(native):
        for name, vector in (confounding.describe(channel) | instrument.describe(channel)).items():
            if place == 0:
                described[name] = vector
            elif name != confounding.CROP:  # all channels have one size
                described[confounding.in_channel(name, names[place])] = vector
    return described
