"""Train one network: the loop that `tune` and `train` share."""

import math
from collections.abc import Callable
from copy import deepcopy
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
from pipelines.training.examples import Examples, Indices, class_weights, iterate_batches, steps_per_epoch
from pipelines.training.prediction import predict

Report = Callable[[int, dict[str, float]], None]
"""Receives the number of an epoch, from 0, and its metrics."""


class Fit(NamedTuple):
    """A trained network, in evaluation mode."""

    network: Network
    epochs: int
    """Epochs that a fit on more cells of the kind should take: all, or up to the best one after an early stop."""


def fit(examples: Examples, classes: int, params: Train, seed: int, report: Report) -> Fit:
    """Train a network for up to `params.epochs` and return it as it was after the best epoch.

    Best is the lowest loss on the validation cells; training stops after `params.patience` epochs without a better one.
    Without validation cells the network is that of the last epoch. `report` receives the metrics of each epoch, in the
    primary process. Raises ParamsError where the loss is no longer finite.
    """
    loop = TrainingLoop(examples, classes, params, seed)
    best = BestEpoch(loop.network, params)
    for epoch in tqdm(range(params.epochs), desc=f"fit {params.backbone}", unit="epoch", delay=1):
        metrics = loop.run_epoch()
        if len(examples.validation):
            metrics |= distributed.broadcast_object(loop.validate() if distributed.is_primary() else {})
        _check_finite(metrics, epoch, params)
        if distributed.is_primary():
            report(epoch, metrics)
        if len(examples.validation) and best.update(epoch, metrics["validation_loss"]):
            break
    best.restore()
    # Until now it classified each cell once, which is enough to compare epochs.
    loop.network.views = params.views
    return Fit(loop.network.eval(), params.epochs if epoch + 1 == params.epochs else best.epoch + 1)


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

    def __init__(self, examples: Examples, classes: int, params: Train, seed: int) -> None:
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
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            params.learning_rate,
            total_steps=params.epochs * steps_per_epoch(len(examples.train), params.batch_size),
        )
        self._balance = class_weights(examples.targets[examples.train], classes)
        self._weights = torch.from_numpy(self._balance).float().to(device)
        self._load = open_loader(examples.pixels, examples.train, device)
        self._examples, self._params, self._device = examples, params, device

    def run_epoch(self) -> dict[str, float]:
        """Train on all training cells once; return the `train_loss`."""
        losses = [self._step(rows) for rows in iterate_batches(self._examples, self._balance, self._params, self._rng)]
        return {"train_loss": float(torch.stack(losses).mean())}

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

    def _step(self, rows: Indices) -> Tensor:
        """Take one step of the optimizer on the cells of `rows`; return their loss."""
        targets = torch.from_numpy(self._examples.targets[rows]).to(self._device)
        loss = self._loss(self._load(rows), targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimizer.step()
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


class BestEpoch:
    """Keeps the state of a network after the epoch with the lowest validation loss, and says when to stop."""

    def __init__(self, network: Network, params: Train) -> None:
        self._network, self._patience = network, params.patience
        # References to the weights themselves: without validation they are those of the last epoch.
        self._state, self._loss = network.state_dict(), float("inf")
        self.epoch = params.epochs - 1

    def update(self, epoch: int, loss: float) -> bool:
        """Keep the state where `loss` is the lowest so far; return whether training has lost its patience."""
        if loss < self._loss:
            self._state, self._loss, self.epoch = deepcopy(self._network.state_dict()), loss, epoch
            return False
        return epoch - self.epoch >= self._patience

    def restore(self) -> None:
        """Load the best state into the network, in all processes."""
        self._network.load_state_dict(self._state)
        distributed.broadcast_state(self._network)


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
