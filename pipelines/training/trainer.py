"""Train one network: the loop that `tune` and `train` share."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fatescope.config import Train
from fatescope.errors import ParamsError
from fatescope.networks import backbones
from fatescope.networks.network import Network
from fatescope.networks.preprocessing import common_level
from fatescope.networks.symmetry import is_stretched
from pipelines.training import distributed, layers
from pipelines.training.augmentation import augment
from pipelines.training.dataloader import open_loader
from pipelines.training.device import autocast, select_device
from pipelines.training.early_stopping import BestEpoch
from pipelines.training.examples import Examples, Indices, class_weights, iterate_batches, steps_per_epoch
from pipelines.training.pace import Pace
from pipelines.training.prediction import predict

log = logging.getLogger(__name__)

Report = Callable[[int, dict[str, float]], None]
"""Receives the number of an epoch, from 0, and its metrics."""


class Fit(NamedTuple):
    """A trained network, in evaluation mode."""

    network: Network
    epochs: int
    """Epochs that a fit on more cells of the kind should take: all, or up to the best one after an early stop."""
    shortened: bool
    """Whether it took fewer steps than `params` say, because time was short."""


def fit(examples: Examples, classes: int, params: Train, seed: int, report: Report, seconds: float = math.inf) -> Fit:
    """Train a network for up to `params.epochs` and return it as it was after the best epoch.

    Best is the lowest loss on the validation cells; training stops after `params.patience` epochs without a better one.
    Without validation cells the network is that of the last epoch. A fit that would take longer than `seconds` takes
    fewer steps (`Pace`). `report` receives the metrics of each epoch, in the primary process.
    Raises ParamsError where the loss is no longer finite.
    """
    loop = TrainingLoop(examples, classes, params, seed, seconds)
    best = BestEpoch(loop.network, params)
    for epoch in tqdm(range(params.epochs), desc=f"fit {params.backbone}", unit="epoch", delay=1):
        metrics = loop.run_epoch()
        if len(examples.validation):
            metrics |= distributed.broadcast_object(loop.validate() if distributed.is_primary() else {})
        _check_finite(metrics, epoch, params)
        if distributed.is_primary():
            report(epoch, metrics)
        stops = len(examples.validation) and best.update(epoch, metrics["validation_loss"])
        if stops or loop.pace.finished:
            break
    best.restore()
    # Until now it classified each cell once, which is enough to compare epochs.
    loop.network.views = params.views
    epochs = epoch + 1 if loop.pace.finished else best.epoch + 1
    if loop.pace.shortened and distributed.is_primary():
        log.warning(
            "the fit ended after %d of %d epochs, because its part of train.minutes was over; other programs may have "
            "kept the processor busy",
            *(epoch + 1, params.epochs),
        )
    return Fit(loop.network.eval(), epochs, loop.pace.shortened)


def build_network(params: Train, classes: int) -> Network:
    """Build the untrained network that `params` describe."""
    network = Network(
        backbones.build(params.backbone, params.weights, params.input_size),
        classes,
        params.input_size,
        resize=params.resize,
        normalisation=params.normalisation,
        dropout=params.dropout,
    )
    layers.speed_up(network)
    return network


class TrainingLoop:
    """A network, its optimizer and its one-cycle schedule, stepped epoch by epoch."""

    def __init__(self, examples: Examples, classes: int, params: Train, seed: int, seconds: float = math.inf) -> None:
        torch.set_num_threads(params.threads)
        torch.manual_seed(seed)
        device = select_device()
        network = build_network(params, classes)
        if network.level is not None:
            network.level.fill_(common_level(examples.pixels, examples.train))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._model = distributed.wrap_ddp(_Preprocessed(self.network))
        # Processes differ in augmentation and dropout, and agree on the order of cells.
        torch.manual_seed(seed + distributed.rank())
        self._rng = np.random.default_rng(seed)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        steps = params.epochs * steps_per_epoch(len(examples.train), params.batch_size)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, params.learning_rate, total_steps=steps)
        self._balance = class_weights(examples.targets[examples.train], classes)
        self._weights = torch.from_numpy(self._balance).float().to(device)
        self._load = open_loader(examples.pixels, examples.train, device)
        self._examples, self._params, self._device = examples, params, device
        self.pace = Pace(steps, seconds)

    def run_epoch(self) -> dict[str, float]:
        """Train on all training cells once, or until the schedule ends; return the `train_loss`."""
        losses = []
        for rows in self.batches():
            losses.append(self.step(rows))
            if self.pace.finished:
                break
        return {"train_loss": float(torch.stack(losses).mean())}

    def batches(self) -> Iterator[Indices]:
        """Yield the batches of an epoch."""
        return iterate_batches(self._examples, self._balance, self._params, self._rng)

    def validate(self) -> dict[str, float]:
        """Return `validation_loss` and `validation_balanced_accuracy`.

        The loss is that of the mixture of classes which the network's probabilities assume.
        """
        rows = self._examples.validation
        logits, targets = predict(self.network, self._examples.pixels, rows).logits, self._examples.targets[rows]
        weights = None if self._params.balance == "none" else self._weights.cpu()
        loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets), weights)
        return {
            "validation_loss": float(loss),
            "validation_balanced_accuracy": float(balanced_accuracy_score(targets, logits.argmax(1))),
        }

    def step(self, rows: Indices) -> Tensor:
        """Take one step of the optimizer on the cells of `rows`; return their loss."""
        targets = torch.from_numpy(self._examples.targets[rows]).to(self._device)
        loss = self._loss(self._load(rows), targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimizer.step()
        for _ in range(self.pace.advance()):
            self._schedule.step()
        return loss.detach()

    def _loss(self, pixels: Tensor, targets: Tensor) -> Tensor:
        params = self._params
        self._model.train()
        with torch.no_grad():
            stretched = is_stretched(pixels.shape[2:], params.input_size, params.resize)
            images = augment(self.network.preprocess(pixels), params, stretched)
        with autocast(self._device):
            logits = self._model(images)
        weights = self._weights if params.balance == "weights" else None
        return functional.cross_entropy(logits.float(), targets, weights, label_smoothing=params.label_smoothing)


class _Preprocessed(nn.Module):
    """The part of a network that has gradients: from preprocessed images to logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_preprocessed(images).logits


def _check_finite(metrics: dict[str, float], epoch: int, params: Train) -> None:
    """Raise ParamsError where a loss among the `metrics` of an epoch is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ParamsError(
                f"train.learning_rate: with {params.learning_rate:g}, {name} of {params.backbone} is {value} after "
                f"epoch {epoch}: training has diverged; set a lower one, or lower the highest of tune.space"
            )
