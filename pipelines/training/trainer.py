"""Fit one network: the loop that `tune` and `train` share."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fatescope.config import Train
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import ParamsError
from fatescope.networks import backbones
from fatescope.networks.network import Network, common_level
from fatescope.networks.symmetry import is_stretched
from pipelines.training import distributed, layers
from pipelines.training.augmentation import augment
from pipelines.training.dataloader import gatherer

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
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
    """Rows to choose the epoch by; empty where nothing is left to choose."""


def examples_of(source: CellDataset, divided: Splits, split: str, classes: list[str]) -> Examples:
    """Return the training and validation cells of `classes` in `split`; other cells have the target -1."""
    targets = np.array([classes.index(x) if x in classes else -1 for x in source.manifest["label"]], np.int64)
    rows = (divided.indices(split, part, classes) for part in ("train", "validation"))
    return Examples(source.pixels, targets, *rows)


class Fit(NamedTuple):
    """A fitted network, in evaluation mode."""

    network: Network
    epochs: int
    """Epochs that a fit on more cells of the kind should take: all, or as far as early stopping found it worthwhile."""


class Predicted(NamedTuple):
    """What a network says of n cells."""

    logits: Floats
    """(n, K)"""
    embedding: Floats
    """(n, C)"""


def fit(examples: Examples, classes: int, params: Train, seed: int, report: Report) -> Fit:
    """Train a network for up to `params.epochs` and return it as it was after the best epoch on the validation cells.

    Best is the lowest loss. Training ends early after `params.patience` epochs without a better one. Without validation
    cells, it is the network after the last epoch. `report` gets the figures of each epoch, in the leading process.
    Raises ParamsError where the loss is no longer a number.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    device = device_of()
    network = build(params, classes)
    if network.level is not None:
        network.level.fill_(common_level(examples.pixels, examples.train))
    network = network.to(device).to(memory_format=torch.channels_last)
    model = distributed.together(_Trained(network))
    torch.manual_seed(seed + distributed.rank())
    rng = np.random.default_rng(seed)
    steps = max(1, len(examples.train) // params.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.learning_rate, total_steps=params.epochs * steps)
    balance = _balance(examples.targets[examples.train], classes)
    weights = torch.from_numpy(balance).float().to(device)
    # The mixture of validation cells in which the network's probabilities are meant to be right.
    expected = None if params.balance == "none" else weights
    gather = gatherer(examples.pixels, examples.train, device)
    best, best_loss, best_epoch = network.state_dict(), float("inf"), params.epochs - 1
    for epoch in tqdm(range(params.epochs), desc=f"fit {params.backbone}", unit="epoch", delay=1):
        losses = []
        for rows in _batches(examples, balance, params, rng):
            targets = torch.from_numpy(examples.targets[rows]).to(device)
            loss = _loss(model, network, gather(rows), targets, weights, params)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        figures = {"train_loss": float(torch.stack(losses).mean())}
        if len(examples.validation):
            figures |= distributed.agree(_validate(network, examples, expected) if distributed.leads() else {})
        _refuse_diverged(figures, epoch, params)
        if distributed.leads():
            report(epoch, figures)
        if not len(examples.validation):
            continue
        if figures["validation_loss"] < best_loss:
            best, best_loss, best_epoch = deepcopy(network.state_dict()), figures["validation_loss"], epoch
        elif epoch - best_epoch >= params.patience:
            break
    network.load_state_dict(best)
    distributed.share_state(network)
    # So far it has looked once at each cell: that is enough to tell epochs apart.
    network.views = params.views
    return Fit(network.eval(), params.epochs if epoch + 1 == params.epochs else best_epoch + 1)


def build(params: Train, classes: int) -> Network:
    """Build the untrained network that `params` describe."""
    backbone = backbones.build(params.backbone, params.weights, params.input_size)
    network = Network(
        backbone,
        classes,
        params.input_size,
        resize=params.resize,
        normalisation=params.normalisation,
        dropout=params.dropout,
    )
    layers.speed_up(network)
    return network


def device_of() -> torch.device:
    """Return the device that fits: a GPU where PyTorch finds one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def predict(network: nn.Module, pixels: npt.NDArray[np.uint16], rows: Indices, batch_size: int = 256) -> Predicted:
    """Return what `network` says of `rows` of (N, H, W) `pixels`, which may be a memory map."""
    device = next(network.parameters()).device
    network.eval()
    gather, logits, embedding = gatherer(pixels, rows, device), [], []
    for start in range(0, len(rows), batch_size):
        with autocast(device):
            found = network(gather(rows[start : start + batch_size]))
        logits.append(found.logits.float().cpu())
        embedding.append(found.embedding.float().cpu())
    return Predicted(torch.cat(logits).numpy(), torch.cat(embedding).numpy())


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the processor does so itself; elsewhere it would be slower than float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


class _Trained(nn.Module):
    """What gradients flow through: from prepared images to logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_preprocessed(images).logits


def _loss(
    model: nn.Module, network: Network, pixels: Tensor, targets: Tensor, weights: Tensor, params: Train
) -> Tensor:
    model.train()
    with torch.no_grad():
        stretched = is_stretched(pixels.shape[2:], params.input_size, params.resize)
        prepared = augment(network.preprocess(pixels), params, stretched)
    with autocast(pixels.device):
        logits = model(prepared)
    by_class = weights if params.balance == "weights" else None
    return functional.cross_entropy(logits.float(), targets, by_class, label_smoothing=params.label_smoothing)


def _refuse_diverged(figures: dict[str, float], epoch: int, params: Train) -> None:
    """Raise ParamsError where a loss among the `figures` of an epoch is no longer a number."""
    for name, value in figures.items():
        if not math.isfinite(value):
            raise ParamsError(
                f"train.learning_rate: with {params.learning_rate:g}, {name} of {params.backbone} is {value} after "
                f"epoch {epoch}: the fit has diverged; set a lower one, or lower the highest of tune.space"
            )


def _batches(
    examples: Examples, balance: npt.NDArray[np.float64], params: Train, rng: np.random.Generator
) -> Iterator[Indices]:
    """Yield this process's share of each batch of an epoch, rows in ascending order, as a memory map likes them."""
    rows = examples.train
    if params.balance == "sampling":
        chances = balance[examples.targets[rows]]
        order = rng.choice(rows, len(rows), p=chances / chances.sum())
    else:
        order = rng.permutation(rows)
    # A last batch that is smaller is left out: of one cell, it would break batch normalisation.
    steps = max(1, len(rows) // params.batch_size)
    for batch in np.array_split(order[: steps * params.batch_size], steps):
        yield np.sort(batch[distributed.rank() :: distributed.size()])


def _balance(targets: Indices, classes: int) -> npt.NDArray[np.float64]:
    """Return (K,) weights that are inverse to the number of cells of each class."""
    counts = np.bincount(targets, minlength=classes)
    weights: npt.NDArray[np.float64] = len(targets) / (classes * np.maximum(counts, 1))
    return weights


def _validate(network: Network, examples: Examples, weights: Tensor | None) -> dict[str, float]:
    logits = predict(network, examples.pixels, examples.validation).logits
    truth = examples.targets[examples.validation]
    by_class = None if weights is None else weights.cpu()
    loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth), by_class)
    return {
        "validation_loss": float(loss),
        "validation_balanced_accuracy": float(balanced_accuracy_score(truth, logits.argmax(1))),
    }
