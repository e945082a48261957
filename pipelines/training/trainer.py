"""Train one network: the loop that `tune` and `train` share."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional

from fatescope import plural
from fatescope.config import Train
from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.errors import ParamsError
from fatescope.networks import backbones
from fatescope.networks.network import Network
from fatescope.networks.preprocessing import common_level, common_unit
from fatescope.networks.symmetry import is_stretched
from pipelines.progress import progress
from pipelines.training import distributed, layers, starting_weights
from pipelines.training.augmentation import augment
from pipelines.training.batches import Batch
from pipelines.training.dataloader import open_loaders
from pipelines.training.device import InFlight, autocast, gradient_scaler, select_device, upload
from pipelines.training.distillation import Teacher, distillation_loss, teach
from pipelines.training.early_stopping import BestEpoch
from pipelines.training.examples import Examples, Weights, class_weights, iterate_batches, steps_per_epoch
from pipelines.training.graphed import GraphedPass, Pass
from pipelines.training.group_loss import GroupLoss
from pipelines.training.instrument_augmentation import STRENGTHS, randomise
from pipelines.training.loss import cell_losses, weighted_cross_entropy
from pipelines.training.pace import Pace
from pipelines.training.prediction import predict_logits

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


def fit(
    examples: Examples,
    classes: int,
    params: Train,
    seed: int,
    report: Report,
    seconds: float = math.inf,
    teacher: Teacher | None = None,
) -> Fit:
    """Train a network for up to `params.epochs` and return it as it was after the best epoch.

    Best is the lowest loss on the validation cells; training stops after `params.patience` epochs without a better one.
    Without validation cells the network is that of the last epoch. A fit that would take longer than `seconds` takes
    fewer steps (`Pace`). A `teacher` tells what it makes of the same views (`distillation`). `report` receives the
    metrics of each epoch, in the primary process.
    Raises ParamsError where the loss is no longer finite.
    """
    with closing(TrainingLoop(examples, classes, params, seed, seconds, teacher)) as loop:
        best = BestEpoch(loop.network, params)
        for epoch in progress(range(params.epochs), f"fit {params.backbone}", "epoch"):
            metrics = loop.run_epoch()
            if len(examples.validation) and distributed.is_primary():
                metrics |= loop.validate()
            # Processes round differently; whether and when to stop is decided by the numbers of one.
            metrics = distributed.broadcast_object(metrics)
            _check_finite(metrics, epoch, params)
            if distributed.is_primary():
                report(epoch, metrics)
            distributed.wait_for_primary()
            stops = len(examples.validation) and best.update(epoch, metrics["validation_loss"])
            if stops or loop.pace.finished:
                break
        best.restore()
    # Until now it classified each cell once, which is enough to compare epochs.
    loop.network.views = params.views
    epochs = epoch + 1 if loop.pace.finished else best.epoch + 1
    if loop.pace.shortened and distributed.is_primary():
        log.warning(
            "the fit ended after %d of %s, because its part of train.minutes was over; other programs may have "
            "kept the processor busy",
            *(epoch + 1, plural.count(params.epochs, "epoch")),
        )
    return Fit(loop.network.eval(), epochs, loop.pace.shortened)


def build_network(params: Train, classes: int, kinds: tuple[ChannelKind, ...] = (BRIGHTFIELD,)) -> Network:
    """Build the untrained network that `params` describe, for channels of these `kinds`."""
    network = Network(
        backbones.build(params.backbone, params.weights, params.input_size, len(kinds), params.stem),
        classes,
        params.input_size,
        resize=params.resize,
        normalisation=params.normalisation,
        dropout=params.dropout,
        kinds=kinds,
    )
    layers.speed_up(network)
    return network


class TrainingLoop:
    """A network, its optimizer and its one-cycle schedule, stepped epoch by epoch."""

    def __init__(
        self,
        examples: Examples,
        classes: int,
        params: Train,
        seed: int,
        seconds: float = math.inf,
        teacher: Teacher | None = None,
    ) -> None:
        torch.set_num_threads(params.threads)
        torch.manual_seed(seed)
        device = select_device()
        network = build_network(params, classes, examples.kinds)
        if network.level is not None:
            network.level.copy_(common_level(examples.pixels, examples.train))
        if network.unit is not None:
            network.unit.copy_(common_unit(examples.pixels, examples.train))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        if params.weights != "none":
            starting_weights.adapt(self.network, examples.pixels, examples.train)
        self.network.features.requires_grad_(not params.freeze)
        self._model = distributed.wrap_ddp(_Preprocessed(self.network))
        # Processes differ in augmentation and dropout, and agree on the order of cells.
        torch.manual_seed(seed + distributed.rank())
        self._rng = np.random.default_rng(seed)
        self._optimizer = torch.optim.AdamW(
            [weight for weight in self.network.parameters() if weight.requires_grad],
            params.learning_rate,
            weight_decay=params.weight_decay,
            fused=True,
        )
        steps = params.epochs * steps_per_epoch(len(examples.train), params.batch_size)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, params.learning_rate, total_steps=steps)
        self._balance = class_weights(examples.targets[examples.train], classes)
        self._weights = torch.from_numpy(self._balance).float().to(device)
        self._training, self._validation = open_loaders(examples.pixels, [examples.train, examples.validation], device)
        # It is asked, never trained: no part of what processes synchronise.
        self._teacher = None if teacher is None else teacher.to(device).eval()
        self._examples, self._params, self._device = examples, params, device
        self._scaler, self._in_flight = gradient_scaler(device), InFlight(device)
        # Several processes exchange gradients within the pass, which is not recorded.
        graphed = device.type == "cuda" and distributed.world_size() == 1
        self._pass: Pass = GraphedPass(self._compute_gradients) if graphed else self._compute_gradients
        self._by_group = group_loss(examples, self._balance, params, device) if params.groups == "dro" else None
        self.pace = Pace(steps, seconds)

    def close(self) -> None:
        """Give back the memory of the device, but for that of the network."""
        self.network.zero_grad(set_to_none=True)
        # The recorded pass refers to this object, which refers to it: Python would free both some time later.
        del self._training, self._validation, self._pass

    def run_epoch(self) -> dict[str, float]:
        """Train on all training cells once, or until the schedule ends; return the `train_loss`."""
        losses = []
        for batch in self.batches():
            losses.append(self.step(batch))
            if self.pace.finished:
                break
        return {"train_loss": float(torch.stack(losses).mean())}

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        return self._training.load_batches(iterate_batches(self._examples, self._balance, self._params, self._rng))

    def validate(self) -> dict[str, float]:
        """Return `validation_loss` and `validation_balanced_accuracy`.

        The loss is that of the mixture of classes which the network's probabilities assume.
        """
        rows = self._examples.validation
        logits, targets = predict_logits(self.network, self._validation, rows), self._examples.targets[rows]
        weights = None if self._params.balance == "none" else self._weights.cpu()
        loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets), weights)
        return {
            "validation_loss": float(loss),
            "validation_balanced_accuracy": float(balanced_accuracy_score(targets, logits.argmax(1))),
        }

    def step(self, batch: Batch) -> Tensor:
        """Take one step of the optimizer on the cells of `batch`; return their loss."""
        facts = [self._examples.targets[batch.rows]]
        if self._by_group is not None and self._examples.groups is not None:
            facts.append(self._by_group.places(self._examples.groups[batch.rows]))
        loss = self._pass(batch.pixels, *(upload(fact, self._device) for fact in facts))
        # In float16 it leaves out a step whose gradients overflow, and scales the next ones less.
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._in_flight.end_step()
        for _ in range(self.pace.advance()):
            self._schedule.step()
        return loss

    def _compute_gradients(self, pixels: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """Leave the gradients of the loss in the parameters, and return the loss."""
        loss = self._loss(pixels, targets, groups)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    def _loss(self, pixels: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        params = self._params
        self._model.train()
        # Its statistics belong to its weights.
        self.network.features.train(not params.freeze)
        with torch.no_grad():
            stretched = is_stretched(pixels.shape[2:], params.input_size, params.resize)
            if params.domain != "none":
                pixels = randomise(pixels, self._examples.kinds, STRENGTHS[params.domain])
            images = augment(self.network.preprocess(pixels), params, stretched)
        with autocast(self._device):
            logits = self._model(images)
            taught = None if self._teacher is None else teach(self._teacher, images)
        weights = self._weights if params.balance == "weights" else None
        # What a teacher learned of the groups, it teaches.
        if taught is not None:
            return distillation_loss(logits.float(), taught, targets, weights, params.label_smoothing)
        if self._by_group is not None and groups is not None:
            return self._by_group(cell_losses(logits.float(), targets, weights, params.label_smoothing), groups)
        return weighted_cross_entropy(logits.float(), targets, weights, params.label_smoothing)


def group_loss(examples: Examples, balance: Weights, params: Train, device: torch.device) -> GroupLoss:
    """Return the loss of `train.groups: dro` for the training cells; `balance` are the (K,) weights of the classes.

    Raises ParamsError where they have no groups, or one only.
    """
    of_cells = balance[examples.targets[examples.train]]
    even = np.ones_like(of_cells)
    groups = even.astype(np.int64) if examples.groups is None else examples.groups[examples.train]
    chances = of_cells if params.balance == "sampling" else even
    weights = of_cells if params.balance == "weights" else even
    return GroupLoss(groups, weights, chances / chances.sum(), params.group_step, device)


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
