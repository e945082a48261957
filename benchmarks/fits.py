"""Rates of fits, and of the step that bounds them; nothing here needs more than training does."""

import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config import Train
from fatescope.data.crops import stacked
from pipelines.training import trainer
from pipelines.training.device import autocast
from pipelines.training.examples import Examples
from pipelines.training.graphed import GraphedPass
from pipelines.training.layers import SmallMapConv2d

CPU = torch.device("cpu")
STEPS = 25
"""Steps that are timed on the constant batch."""
WARM_UP = 2


def fit_rate(examples: Examples, classes: int, settings: Train, seed: int) -> tuple[float, trainer.Fit]:
    """Return the images per second of `fit`, from the end of the first epoch to that of the last, and the fit."""
    ends: list[float] = []
    fit = trainer.fit(examples, classes, settings, seed, lambda *_: ends.append(time.perf_counter()))
    steps = len(examples.train) // settings.batch_size
    return steps * settings.batch_size * (len(ends) - 1) / (ends[-1] - ends[0]), fit


def constant_rate(  # noqa: PLR0913  what a rate is of
    examples: Examples,
    classes: int,
    settings: Train,
    seed: int,
    device: torch.device = CPU,
    *,
    plain: bool = False,
    graphed: bool = False,
    steps: int = STEPS,
) -> float:
    """Return the images per second of the same network and step on one batch in the memory of `device`.

    With `plain`, the network has the convolutions of PyTorch everywhere; with `graphed`, the step is a CUDA graph.
    """
    torch.manual_seed(seed)
    network = trainer.build_network(settings, classes).to(device, memory_format=torch.channels_last).train()
    for module in network.modules() if plain else ():
        if isinstance(module, SmallMapConv2d):
            module.__class__ = torch.nn.Conv2d
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    rows = examples.train[: settings.batch_size]
    with torch.no_grad():
        images = network.preprocess(torch.from_numpy(stacked(examples.pixels[rows].astype(np.float32))).to(device))
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(examples.targets[rows]).to(device)

    def compute_gradients(images: Tensor, targets: Tensor) -> Tensor:
        with autocast(device):
            logits = network.forward_preprocessed(images).logits
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(logits.float(), targets)
        loss.backward()
        return loss.detach()

    run = GraphedPass(compute_gradients) if graphed else compute_gradients
    # A graph is recorded in one of the first steps.
    warm_up = 4 * WARM_UP if graphed else WARM_UP
    start = 0.0
    for step in range(steps + warm_up):
        if step == warm_up:
            synchronize(device)
            start = time.perf_counter()
        run(images, targets)
        optimizer.step()
    synchronize(device)
    return steps * len(rows) / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
