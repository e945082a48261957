"""What `benchmarks.gpu` measures of training: one fit beside its bound and a plain recipe, and many in a table."""

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.fits import constant_rate, fit_rate
from benchmarks.gpu_cells import write_pngs
from benchmarks.report import Figure
from benchmarks.tables import Row
from fatescope import plural
from fatescope.config import Train
from fatescope.networks.backbones import BACKBONES, SMALLEST
from pipelines.training import trainer
from pipelines.training.examples import Examples

CLASSES = 4
LOADERS = 4
"""Processes of the DataLoader of the plain recipe, as in PyTorch's tutorial of transfer learning."""
ALL_SETTINGS, ALL_EPOCHS = 60, 12
"""Of the search that the paper's size stands for."""


def backbones() -> list[str]:
    """Return the backbones that this machine can build."""
    return sorted(BACKBONES) if find_spec("torchvision") else ["compact"]


class Folder(Dataset[tuple[Tensor, int]]):
    """PNGs in one folder a class, each opened when it is asked for, as `ImageFolder` does."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._paths, self._size = sorted(folder.glob("*/*.png")), size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Open, resize, flip and scale one cell to three channels."""
        path = self._paths[index]
        with Image.open(path) as opened:
            image = opened.convert("RGB").resize(self._size[::-1], Image.Resampling.BILINEAR)
        for flip in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
            image = image.transpose(flip) if torch.rand(()) < 0.5 else image
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.2, int(path.parent.name)


def plain_rate(folder: Path, settings: Train, device: torch.device, seed: int, loaders: int) -> float:
    """Train as PyTorch's tutorials do, in float32; return images per second, from the second epoch on."""
    torch.manual_seed(seed)
    loader = DataLoader(
        Folder(folder, settings.input_size),
        settings.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=loaders,
        persistent_workers=loaders > 0,
    )
    model = _plain_model(settings.backbone).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    ends = []
    for _ in range(settings.epochs):
        total = 0.0
        for images, targets in loader:
            loss = functional.cross_entropy(model(images.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        ends.append(time.perf_counter())
    return len(loader) * settings.batch_size * (len(ends) - 1) / (ends[-1] - ends[0])


def _plain_model(backbone: str) -> nn.Module:
    if backbone == "compact":
        built = BACKBONES[backbone]("none", 3)
        return nn.Sequential(built.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(built.channels, CLASSES))
    import torchvision  # noqa: PLC0415  a bare machine may lack it

    model: nn.Module = torchvision.models.get_model(backbone, num_classes=CLASSES)
    return model


def measure_fit(
    examples: Examples, folder: Path, settings: Train, device: torch.device, seed: int, *, steps: int, loaders: int
) -> list[Figure]:
    """Return the figures of one fit, its bound and the plain recipe; PNGs are written into `folder`."""
    on_gpu = device.type == "cuda"
    # The faster of both is what the card can do.
    limits = [
        constant_rate(examples, CLASSES, settings, seed, device, graphed=graphed, steps=steps)
        for graphed in ((False, True) if on_gpu else (False,))
    ]
    rate, _ = fit_rate(examples.only(examples.train), CLASSES, settings, seed)
    validated, _ = fit_rate(examples, CLASSES, settings, seed)
    write_pngs(folder, examples)
    plain = plain_rate(folder, settings, device, seed, loaders)
    name = f"{settings.backbone} at {settings.input_size[0]}x{settings.input_size[1]}, batch {settings.batch_size}"
    figures = [
        Figure("fit over the step on one constant batch", rate / max(limits), ">= 0.9"),
        Figure("fit over PNGs, a DataLoader and float32", rate / plain, ">= 5"),
        Figure(f"images a second, fit ({name})", rate),
        Figure("images a second, fit with validation in each epoch", validated),
        Figure("images a second, constant batch", limits[0]),
        Figure(f"images a second, PNGs, DataLoader of {plural.count(loaders, 'process', 'processes')}, float32", plain),
    ]
    return figures + [Figure("images a second, constant batch as a CUDA graph", limit) for limit in limits[1:]]


def draw_settings(train: Train, count: int, seed: int, batch_sizes: list[int]) -> list[Train]:
    """Return `count` seeded settings, the backbones in turn, with the sizes of batch that a GPU is for."""
    rng, drawn = np.random.default_rng(seed), []
    for i in range(count):
        backbone = backbones()[i % len(backbones())]
        smallest = SMALLEST.get(backbone, 0)
        sizes = [(45, 60), (60, 60)] if smallest == 0 else [(smallest, smallest)]
        changes = {
            "backbone": backbone,
            "weights": "none",
            "input_size": sizes[rng.integers(len(sizes))],
            "batch_size": int(rng.choice(batch_sizes)),
            "learning_rate": float(10 ** rng.uniform(-3.3, -2)),
            "dropout": float(rng.uniform(0, 0.5)),
            "max_shift": int(rng.choice([0, 2, 4])),
            "epochs": 2,
        }
        drawn.append(train.model_copy(update=changes))
    return drawn


def measure_settings(examples: Examples, drawn: list[Train], seed: int, minutes: float) -> list[Row]:
    """Return a row of each fit of two epochs that was begun within `minutes`, its second epoch timed."""
    began, rows = time.perf_counter(), []
    for number, settings in enumerate(drawn, start=1):
        if time.perf_counter() - began > 60 * minutes:
            left = len(drawn) - number + 1
            were = f"{plural.count(len(drawn), 'setting')} {plural.agree(left, 'was', 'were')}"
            print(f"{left} of {were} not fitted within {minutes:g} min")
            break
        reported: list[tuple[float, dict[str, float]]] = []
        start = time.perf_counter()
        trainer.fit(
            examples,
            CLASSES,
            settings,
            seed,
            lambda _, metrics, to=reported: to.append((time.perf_counter(), metrics)),  # type: ignore[misc]  # bound now
        )
        (first, _), (second, metrics) = reported
        size = f"{settings.input_size[0]}x{settings.input_size[1]}"
        values = {
            "seconds an epoch": second - first,
            "seconds, first epoch and start": first - start,
            "cells a second": len(examples.train) / (second - first),
            "validation balanced accuracy": metrics["validation_balanced_accuracy"],
        }
        forms = dict.fromkeys(list(values)[:3], "{:,.1f}")
        rows.append(Row(f"{number}: {settings.backbone}, {size}, batch {settings.batch_size}", values, forms=forms))
        print(rows[-1].name, {name: round(value, 3) for name, value in values.items()}, flush=True)
    return rows


def extrapolate(rows: list[Row]) -> Figure:
    """Return the hours of the whole search, by arithmetic from the epochs that were timed."""
    mean_s = float(np.mean([row.values["seconds an epoch"] for row in rows]))
    hours = ALL_SETTINGS * ALL_EPOCHS * mean_s / 3600
    return Figure(f"hours for {ALL_SETTINGS} settings of {ALL_EPOCHS} epochs, by arithmetic", hours)
