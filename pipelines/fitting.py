"""Fit one network: the loop that `tune` and `train` share."""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from pipelines.core import backbones
from pipelines.core.network import Network
from pipelines.core.params import Train

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Examples:
    """Labelled cells, by reference: `pixels` may be a memory map that is never read whole."""

    pixels: npt.NDArray[np.uint16]
    """(N, H, W)"""
    targets: Indices
    """(N,) index of the class; rows that neither list names may hold anything."""
    train: Indices
    """Rows to learn from."""
    validation: Indices
    """Rows to choose the epoch by."""


def fit(examples: Examples, classes: int, params: Train, report: Report) -> Network:
    """Train a network for `params.epochs` and return it as it was after the best epoch on the validation cells.

    Classes weigh the same, however many cells they have. `report` gets the figures of each epoch.
    """
    torch.manual_seed(params.seed)
    torch.set_num_threads(params.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = backbones.build(params.backbone, params.weights, params.input_size)
    network = Network(backbone, classes, params.input_size, resize=params.resize, dropout=params.dropout)
    network = network.to(device).to(memory_format=torch.channels_last)
    steps = max(1, len(examples.train) // params.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), params.learning_rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.learning_rate, total_steps=params.epochs * steps)
    weights = _balance(examples.targets[examples.train], classes).to(device)
    rng = np.random.default_rng(params.seed)
    best, best_loss = deepcopy(network.state_dict()), float("inf")
    for epoch in tqdm(range(params.epochs), desc=f"fit {params.backbone}", unit="epoch", delay=1):
        network.train()
        losses = []
        # A last batch that is smaller is left out: of one cell, it would break batch normalisation.
        for rows in np.array_split(rng.permutation(examples.train)[: steps * params.batch_size], steps):
            pixels, targets = _batch(examples, np.sort(rows), device)
            images = _augment(network.prepare(pixels))
            with _autocast(device):
                logits = network.classify(images).logits
            loss = functional.cross_entropy(logits.float(), targets, weights, label_smoothing=params.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        figures = _validate(network, examples, weights, params.batch_size, device)
        report(epoch, {"train_loss": float(torch.stack(losses).mean()), **figures})
        if figures["validation_loss"] < best_loss:
            best, best_loss = deepcopy(network.state_dict()), figures["validation_loss"]
    network.load_state_dict(best)
    network.eval()
    return network


def _batch(examples: Examples, rows: Indices, device: torch.device) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(examples.pixels[rows].astype(np.float32)[:, None])
    return pixels.to(device, non_blocking=True), torch.from_numpy(examples.targets[rows]).to(device)


def _augment(images: Tensor) -> Tensor:
    """Mirror a batch at random, each image by itself: a cell in flow has no up and no left."""
    for axis in (2, 3):
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(chosen, images.flip(axis), images)
    return images.contiguous(memory_format=torch.channels_last)


def _autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the processor does so itself; elsewhere it would be slower than float32."""
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    native = device.type == "cuda" or features.get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def _balance(targets: Indices, classes: int) -> Tensor:
    """Return (K,) weights that are inverse to the number of cells of each class."""
    counts = np.bincount(targets, minlength=classes)
    return torch.tensor(len(targets) / (classes * np.maximum(counts, 1)), dtype=torch.float32)


@torch.inference_mode()
def _validate(
    network: Network, examples: Examples, weights: Tensor, batch_size: int, device: torch.device
) -> dict[str, float]:
    network.eval()
    logits, targets = [], []
    for start in range(0, len(examples.validation), batch_size):
        pixels, target = _batch(examples, examples.validation[start : start + batch_size], device)
        with _autocast(device):
            logits.append(network(pixels).logits.float())
        targets.append(target)
    scores, truth = torch.cat(logits), torch.cat(targets)
    return {
        "validation_loss": float(functional.cross_entropy(scores, truth, weights)),
        "validation_balanced_accuracy": float(balanced_accuracy_score(truth.cpu(), scores.argmax(1).cpu())),
    }
