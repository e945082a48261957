"""Inference with a network in PyTorch, during training and for calibration."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipelines.training.dataloader import open_loader
from pipelines.training.device import autocast

BATCH = 256
"""Cells in a batch."""


class Predictions(NamedTuple):
    """Outputs of a network for n cells."""

    logits: npt.NDArray[np.float32]
    """(n, K)"""
    embedding: npt.NDArray[np.float32]
    """(n, C)"""


@torch.inference_mode()
def predict(network: nn.Module, pixels: npt.NDArray[np.uint16], rows: npt.NDArray[np.int64]) -> Predictions:
    """Return the outputs of `network` for `rows` of (N, H, W) `pixels`, which may be a memory map."""
    device = next(network.parameters()).device
    network.eval()
    load, logits, embedding = open_loader(pixels, rows, device), [], []
    for start in range(0, len(rows), BATCH):
        with autocast(device):
            outputs = network(load(rows[start : start + BATCH]))
        logits.append(outputs.logits.float().cpu())
        embedding.append(outputs.embedding.float().cpu())
    return Predictions(torch.cat(logits).numpy(), torch.cat(embedding).numpy())
