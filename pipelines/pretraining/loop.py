"""Teach a backbone on cells without labels: the loop of the stage `pretrain`.

Each cell of a batch is seen in two random views. Backbone and a projector of two layers are trained so that the
projections of both agree; the projector, which takes the loss of detail upon itself (Chen et al. 2020), is then left
out.
"""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fatescope import plural
from fatescope.config import Pretrain, Train
from fatescope.config.names import BRIGHTFIELD, ChannelKind
from fatescope.errors import ParamsError
from fatescope.networks.network import Network
from fatescope.networks.preprocessing import common_level, common_unit
from fatescope.networks.symmetry import is_stretched
from pipelines.pretraining.objectives import OBJECTIVES
from pipelines.pretraining.views import random_view
from pipelines.progress import progress
from pipelines.training.dataloader import open_loaders
from pipelines.training.device import autocast, gradient_scaler, select_device
from pipelines.training.pace import Pace
from pipelines.training.trainer import build_network

log = logging.getLogger(__name__)

PROJECTION = 256
"""Width of the projector's layers."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""

Indices = npt.NDArray[np.int64]


class Pretrained(NamedTuple):
    """A network whose backbone was taught without labels, in evaluation mode."""

    network: Network
    losses: list[float]
    """Mean loss of each epoch."""
    shortened: bool
    """Whether it took fewer steps than `params` say, because time was short."""


def pretrain(
    pixels: npt.NDArray[np.uint16],
    rows: Indices,
    params: Pretrain,
    settings: Train,
    kinds: tuple[ChannelKind, ...] = (BRIGHTFIELD,),
    seconds: float = math.inf,
) -> Pretrained:
    """Teach the backbone of `settings` on `rows` of `pixels`, prepared as for training, within `seconds`.

    Raises ParamsError where there are fewer cells than a batch has, or where the loss is no longer finite.
    """
    if len(rows) < params.batch_size:
        cells = plural.count(len(rows), "cell is", "cells are")
        raise ParamsError(
            f"pretrain.batch_size: {params.batch_size}, but only {cells} there to learn from; lower it, or set "
            "pretrain.method to none"
        )
    loop = _Loop(pixels, rows, params, settings, kinds)
    pace = Pace(params.epochs * loop.steps, seconds)
    losses = list[float]()
    for epoch in progress(range(params.epochs), f"pretrain {settings.backbone}", "epoch"):
        losses.append(loop.run_epoch(pace))
        if not math.isfinite(losses[-1]):
            raise ParamsError(
                f"pretrain.learning_rate: with {params.learning_rate:g}, the loss is {losses[-1]} after epoch "
                f"{epoch}: training has diverged; set a lower one"
            )
        if pace.finished:
            break
    if pace.shortened:
        log.warning(
            "pretraining ended after %d of %s, because pretrain.minutes were over",
            *(len(losses), plural.count(params.epochs, "epoch")),
        )
    return Pretrained(loop.network.eval(), losses, pace.shortened)


class _Loop:
    """A network with a projector, its optimizer and its one-cycle schedule."""

    def __init__(
        self,
        pixels: npt.NDArray[np.uint16],
        rows: Indices,
        params: Pretrain,
        settings: Train,
        kinds: tuple[ChannelKind, ...],
    ) -> None:
        torch.set_num_threads(settings.threads)
        torch.manual_seed(params.seed)
        device = select_device()
        # All of it learns, and from nothing, also where training is to keep the result.
        network = build_network(settings.changed({"weights": "none", "freeze": False}), 1, kinds)
        if network.level is not None:
            network.level.copy_(common_level(pixels, rows))
        if network.unit is not None:
            network.unit.copy_(common_unit(pixels, rows))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.steps = len(rows) // params.batch_size
        """Steps of an epoch."""
        self._projector = _projector(network.linear.in_features).to(device)
        weights = [*network.features.parameters(), *self._projector.parameters()]
        self._optimizer = torch.optim.AdamW(weights, params.learning_rate, weight_decay=params.weight_decay, fused=True)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, params.learning_rate, total_steps=params.epochs * self.steps, pct_start=WARM_UP
        )
        self._scaler, self._rng = gradient_scaler(device), np.random.default_rng(params.seed)
        self._stretched = is_stretched(pixels.shape[-2:], settings.input_size, settings.resize)
        [self._load] = open_loaders(pixels, [rows], device)
        self._rows, self._params, self._device = rows, params, device

    def run_epoch(self, pace: Pace) -> float:
        """Learn from all cells once, or until the schedule ends; return the mean loss."""
        self.network.train()
        order = self._rng.permutation(self._rows)[: self.steps * self._params.batch_size]
        losses = []
        # Rows in ascending order suit a memory map.
        for batch in self._load.load_batches(np.sort(part) for part in np.split(order, self.steps)):
            losses.append(self._step(batch.pixels))
            for _ in range(pace.advance()):
                self._schedule.step()
            if pace.finished:
                break
        return float(torch.stack(losses).mean())

    def _step(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            images = self.network.preprocess(pixels)
            views = torch.cat([random_view(images, self._params, self._stretched) for _ in range(2)])
        with autocast(self._device):
            projections = self._projector(self.network.features(views).mean((2, 3)))
        # Outside of autocast, because small differences between similarities count.
        loss = OBJECTIVES[self._params.method](*projections.float().chunk(2))
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()


def save(network: Network, path: Path) -> None:
    """Write the backbone as the weights of a bundle have it, which `train.weights` takes."""
    state = {f"features.{name}": value.contiguous().cpu() for name, value in network.features.state_dict().items()}
    # By which weights of ours are told from torchvision's.
    save_file(state | {"temperature": network.temperature.cpu()}, path)


def _projector(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, PROJECTION, bias=False),
        nn.BatchNorm1d(PROJECTION),
        nn.ReLU(),
        nn.Linear(PROJECTION, PROJECTION),
    )
