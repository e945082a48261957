"""Batch normalisation by the statistics of a sample in place of those of training (AdaBN, Li et al. 2016)."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.few_labels.sets import Indices
from fatescope.networks.network import Network
from pipelines.training.prediction import predict

FEWEST = 8
"""Cells of a sample; smaller ones keep the statistics of training."""


def predict_by_sample(network: Network, pixels: npt.NDArray[np.uint16], groups: Indices) -> Indices:
    """Return the (n,) classes of (n, H, W) `pixels`, each by the statistics of the cells of its group."""
    predicted = np.empty(len(pixels), np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        with _statistics_of(network, pixels[rows]):
            predicted[rows] = predict(network, pixels, rows).logits.argmax(1)
    return predicted


@contextmanager
def _statistics_of(network: Network, pixels: npt.NDArray[np.uint16]) -> Iterator[None]:
    """Give the network the statistics of `pixels` while the block runs."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    if len(pixels) >= FEWEST:
        for layer in layers:
            layer.train().reset_running_stats()
            # All of the sample at once, or the mean over its batches.
            layer.momentum = None
        with torch.no_grad():
            for part in np.array_split(pixels, max(1, len(pixels) // 256)):
                network(torch.from_numpy(part.astype(np.float32))[:, None])
    try:
        yield
    finally:
        network.load_state_dict(kept)
        network.eval()
