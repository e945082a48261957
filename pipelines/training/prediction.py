"""Inference with a network in PyTorch, during training and for calibration."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fatescope.networks.network import Ensemble, Network
from pipelines.training.batches import Indices, Loader
from pipelines.training.dataloader import open_stream
from pipelines.training.device import autocast, exact

BATCH = 256
"""Cells in a batch."""


class Predictions(NamedTuple):
    """Outputs of a network for n cells."""

    logits: npt.NDArray[np.float32]
    """(n, K)"""
    embedding: npt.NDArray[np.float32]
    """(n, C)"""


@torch.inference_mode()
def predict(network: nn.Module, pixels: npt.NDArray[np.uint16], rows: Indices) -> Predictions:
    """Return the outputs of `network` for `rows` of `pixels`, which may be a memory map.

    They calibrate what is served: on a GPU they are computed in float32 (`device.exact`).
    """
    device = next(network.parameters()).device
    network.eval()
    load, logits, embedding = open_stream(pixels, device), [], []
    for batch in load.load_batches(_split(rows)):
        with exact(device):
            outputs = network(batch.pixels)
        logits.append(outputs.logits.float().cpu())
        embedding.append(outputs.embedding.float().cpu())
    return Predictions(torch.cat(logits).numpy(), torch.cat(embedding).numpy())


@torch.inference_mode()
def predict_logits(network: Network | Ensemble, load: Loader, rows: Indices) -> npt.NDArray[np.float32]:
    """Return the (n, K) logits for `rows` that `load` loads, in the precision of training: to compare epochs."""
    device = network.temperature.device
    network.eval()
    logits = []
    for batch in load.load_batches(_split(rows)):
        with autocast(device):
            # Collected on the device, so that it need not wait for the CPU between batches.
            logits.append(network(batch.pixels).logits.float())
    collected: npt.NDArray[np.float32] = torch.cat(logits).cpu().numpy()
    return collected


def _split(rows: Indices) -> Iterator[Indices]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
