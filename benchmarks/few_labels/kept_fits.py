"""Fits that are kept beside the sets, so that a benchmark which was cut off goes on where it was."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_model, save_model
from scipy.special import softmax

from benchmarks.accuracy import SEED, Indices
from benchmarks.few_labels.sets import Divided
from benchmarks.fits import constant_rate
from fatescope.atomic import replacing
from fatescope.config import Train
from fatescope.networks.network import Ensemble, Network
from pipelines.evaluation import intervals
from pipelines.evaluation.intervals import Floats, Interval, Units
from pipelines.evaluation.metrics import balanced_accuracy
from pipelines.training.ensemble import model_cost
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict
from pipelines.training.trainer import build_network, fit

STEPS = 6
"""Steps that are timed of a fit."""


@dataclass(frozen=True)
class Fitted:
    """A trained network with its settings."""

    network: Network
    settings: Train


def fit_once(folder: Path, cells: Divided, settings: Train, seed: int) -> Fitted:
    """Train on the training cells for all epochs, or return the network that `folder` has of the same fit."""
    examples, classes = cells.examples, len(cells.classes)
    # Views are no part of the fit.
    plain = settings.changed({"views": "one"})
    digest = hashlib.sha256(plain.model_dump_json().encode() + examples.train.tobytes() + str(classes).encode())
    path = folder / f"{settings.backbone}-{settings.stem}-{digest.hexdigest()[:12]}-{seed}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Without validation cells, so that all fits end with their last epoch.
        alone = Examples(examples.pixels, examples.targets, examples.train, examples.train[:0], examples.kinds)
        network = fit(alone, classes, plain, seed, lambda *_: None).network
        with replacing(path) as part:
            save_model(network, str(part))
    network = build_network(settings, classes, examples.kinds)
    load_model(network, str(path))
    network.views = settings.views
    return Fitted(network.eval(), settings)


def probabilities(network: Network | Ensemble, cells: Divided, rows: Indices) -> npt.NDArray[np.floating]:
    """Return the (n, K) probabilities of a network for the cells in `rows`."""
    values: npt.NDArray[np.floating] = softmax(predict(network, cells.examples.pixels, rows).logits, axis=1)
    return values


def multiply_adds(network: Network | Ensemble, cells: Divided) -> float:
    """Return the multiply-adds of one cell, in millions."""
    return model_cost(network, cells.examples.pixels.shape[1:]).multiply_adds / 1e6


def rate(network: Network | Ensemble, cells: Divided, most: int) -> float:
    """Return the cells a second that a network classifies, with one thread and in batches."""
    rows = cells.test[:most]
    start = time.perf_counter()
    predict(network, cells.examples.pixels, rows)
    return len(rows) / (time.perf_counter() - start)


def fit_seconds(fitted: Fitted, cells: Divided) -> float:
    """Return the seconds of a fit with one thread, from the rate of its steps on a constant batch.

    Other programs may have kept the processor busy while it was trained.
    """
    images = fitted.settings.epochs * len(cells.examples.train)
    return images / constant_rate(cells.examples, len(cells.classes), fitted.settings, SEED, steps=STEPS)


def units_of(cells: Divided, rows: Indices, kind: str) -> Units:
    """Return what intervals over the cells in `rows` leave out in turn: their `groups`, or `cells`."""
    names = cells.groups[rows] if kind == "groups" else np.arange(len(rows))
    return intervals.make_units(names.astype(str), cells.examples.targets[rows].astype(str))


def accuracy_without(cells: Divided, rows: Indices, values: Floats, units: Units) -> Floats:
    """Return the (1 + U,) balanced accuracy of (n, K) probabilities: of all cells in `rows`, then without each unit."""
    targets, classes = cells.examples.targets[rows], len(cells.classes)
    return balanced_accuracy(intervals.counts_without(targets, values.argmax(1), units, classes))


def difference(one: Floats, other: Floats, units: Units) -> Interval:
    """Return by how much `one` is above `other`, paired: both (1 + U,) values leave out the same units."""
    return intervals.interval(one - other, units, intervals.DIFFERENCE)
