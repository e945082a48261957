"""MobileNetV2 from nothing, from ImageNet and from the other set of cells, at four shares of labels.

Every finished fit is kept below the folder of the sets, so that a run which was cut off goes on where it was.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.torch import save_model

from benchmarks.accuracy import FOLDS, SEED, Indices
from benchmarks.few_labels.sets import Divided, Sets
from benchmarks.tables import Row
from fatescope.atomic import replacing
from fatescope.config import Train
from pipelines.evaluation.intervals import counts_without, interval, make_units
from pipelines.evaluation.metrics import balanced_accuracy
from pipelines.training.examples import steps_per_epoch
from pipelines.training.prediction import predict
from pipelines.training.trainer import fit

SHARES = (0.01, 0.05, 0.2, 1.0)
FEW_SHARE, DRAWS = 0.1, 3
"""Malaria, which is divided once, has this many draws of its labels for shares below the first, each with a fit of
another seed; Jurkat has one in each fold."""
STARTS = {
    "from nothing": [("none", False)],
    "from ImageNet": [("imagenet", True), ("imagenet", False)],
    "from the other cells": [("other", True), ("other", False)],
}
"""Row → weights, and whether the backbone is frozen."""

# Jurkat's lamp is steady, see `benchmarks.accuracy`.
NORMALISATION = {"malaria": "contrast", "Jurkat": "fixed"}
COMMON = (
    {"backbone": "mobilenet_v2", "input_size": [40, 40], "resize": "stretch", "views": "one", "symmetries": True}
    | {"weight_decay": 0.05, "label_smoothing": 0.05, "balance": "weights"}
    | {"dropout": 0.2, "max_shift": 2, "intensity": 0.1}
)
RATES = {"nothing": 3e-3, "fine-tuned": 3e-3, "frozen": 1e-2}
"""Peak learning rates."""
SMALL_BATCH, BATCH, FEW = 16, 32, 1000
"""Cells in a step of fits on fewer cells than FEW, and of others."""
FEWEST_STEPS, POWER = 200, 0.75
"""A fit on n cells takes n to the POWER steps, but FEWEST_STEPS at least."""


@dataclass(frozen=True)
class Transfer:
    """One fit: a start, frozen or not, on a share of the labels of one division of a set."""

    sets: Sets
    name: str
    """`malaria` or `Jurkat`."""
    weights: str
    """`none`, `imagenet` or `other`."""
    freeze: bool
    share: float
    fold: int = 0
    draw: int = 0
    """Which draw of the labels, and which seed of the fit."""

    @property
    def labels(self) -> int:
        """The number of the draw of labels, which is another one in each fold too."""
        return self.fold + FOLDS * self.draw

    @cached_property
    def divided(self) -> Divided:
        """The cells, with labels for the share."""
        whole = self.sets.malaria if self.name == "malaria" else self.sets.jurkat[self.fold]
        return whole.with_labels(self.share, SEED + self.labels)

    @property
    def predicted(self) -> Indices:
        """The classes that the network gives to the test cells."""
        return self._run()[0]

    @property
    def network(self) -> Path:
        """The weights of the network."""
        return self._run()[1]

    def settings(self) -> Train:
        """Return how the network is trained."""
        cells = len(self.divided.examples.train)
        steps = 10 if self.sets.small else max(FEWEST_STEPS, cells**POWER)
        batch_size = SMALL_BATCH if cells < FEW else BATCH
        epochs = max(1, round(steps / steps_per_epoch(cells, batch_size)))
        kind = "nothing" if self.weights == "none" else "frozen" if self.freeze else "fine-tuned"
        weights = {"none": "none", "imagenet": str(self.sets.imagenet)}.get(self.weights) or str(self._other().network)
        how = {"normalisation": NORMALISATION[self.name], "learning_rate": RATES[kind], "epochs": epochs}
        how |= {"batch_size": batch_size}
        return self.sets.common.changed(COMMON | how | {"weights": weights, "freeze": self.freeze})

    def _other(self) -> "Transfer":
        """Return the fit from nothing on all labels of the other set."""
        return Transfer(self.sets, "Jurkat" if self.name == "malaria" else "malaria", "none", freeze=False, share=1.0)

    def _run(self) -> tuple[Indices, Path]:
        settings = self.settings()
        digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:8]
        stem = (
            f"{self.name}-{self.weights}-{'frozen' if self.freeze else 'tuned'}-{self.share:g}-{self.labels}-{digest}"
        )
        folder = self.sets.work / "transfer"
        weights, answers = folder / f"{stem}.safetensors", folder / f"{stem}.npy"
        if not answers.exists():
            folder.mkdir(exist_ok=True)
            # Without validation cells: labels to stop by would be labels too.
            examples = self.divided.examples.only(self.divided.examples.train)
            network = fit(examples, len(self.divided.classes), settings, SEED + self.draw, lambda *_: None).network
            classes = predict(network, examples.pixels, self.divided.test).logits.argmax(1)
            if self.share == 1 and self.weights == "none":
                save_model(network, str(weights))
            with replacing(answers) as part, part.open("wb") as file:
                np.save(file, classes)
        predicted: Indices = np.load(answers)
        return predicted, weights


def plan(sets: Sets) -> list[Transfer]:
    """Return all fits, so that those which others start from come first."""
    shares = (0.05, 0.2) if sets.small else SHARES
    folds = {"malaria": 1, "Jurkat": 1 if sets.small else FOLDS}
    return [
        Transfer(sets, name, weights, freeze, share, fold, draw)
        for starts in STARTS.values()
        for weights, freeze in starts
        for share in reversed(shares)
        for name, count in folds.items()
        for fold in range(count)
        for draw in range(1 if sets.small or name == "Jurkat" or share > FEW_SHARE else DRAWS)
    ]


def measure(sets: Sets) -> list[Row]:
    """Return balanced accuracy on test cells, by set, start and share of labels, over all folds and draws.

    What follows ± is half of the 95 % interval: over patients for malaria, over cells for Jurkat.
    """
    fits = plan(sets)
    rows = []
    for name in NORMALISATION:
        for start, ways in STARTS.items():
            for weights, freeze in ways:
                kind = "" if weights == "none" else ", frozen" if freeze else ", fine-tuned"
                values = dict[str, float]()
                for share in sorted({each.share for each in fits}):
                    of_share = [
                        each for each in fits if (each.name, each.weights, each.freeze) == (name, weights, freeze)
                    ]
                    value, spread = _accuracy([each for each in of_share if each.share == share])
                    values |= {f"{share:.0%}": value, f"± at {share:.0%}": spread}
                rows.append(Row(f"{name}, {start}{kind}", values))
    return rows


def _accuracy(fits: list[Transfer]) -> tuple[float, float]:
    """Return the balanced accuracy over the test cells of all `fits`, and half of its interval.

    Cells that several of them answer count once for each, and stay in one unit.
    """
    tests = [each.divided.test for each in fits]
    cells, predicted = np.concatenate(tests), np.concatenate([each.predicted for each in fits])
    divided = fits[0].divided
    targets = divided.examples.targets[cells]
    # Groups of Jurkat hold one class.
    units = make_units((divided.groups[cells] if fits[0].name == "malaria" else cells).astype(str), targets.astype(str))
    ends = interval(balanced_accuracy(counts_without(targets, predicted, units, len(divided.classes))), units)
    return ends.value, (ends.high - ends.low) / 2
