"""Pretraining without labels: malaria at 1, 10 and 100 % of the labels, and Jurkat in five folds.

One small network, `compact`, from nothing and from weights that the stage `pretrain` would write; fine-tuned, or frozen
under a logistic regression on its embedding. Test cells are seen by neither, and nothing was chosen on them. What was
fitted is kept below `work`, so that a run that was cut off goes on.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.accuracy import JURKAT_FIT, MALARIA, SEED, Indices
from benchmarks.few_labels.other_instruments import LIKE, of_images
from benchmarks.few_labels.sets import Divided, Sets
from benchmarks.tables import Row
from fatescope.config import Train
from pipelines.pretraining import loop
from pipelines.training.prediction import predict
from pipelines.training.trainer import build_network, fit

SMALL = {"backbone": "compact", "input_size": [40, 40], "batch_size": 64}
FROM_NOTHING, FINE_TUNED = {"learning_rate": 5e-3}, {"learning_rate": 2e-3}
EPOCHS = {0.01: 60, 0.1: 30, 1.0: 8}
"""Share of the labels → epochs."""
SIZES = {"scale": 0.05, "intensity": 0.1, "epochs": 25}
"""Views of Jurkat cells, whose size and darkness tell the phase."""
BOOTSTRAPS = 1000

NOTHING, TUNED, FROZEN = "from nothing", "pretrained, fine-tuned", "pretrained, frozen"
RANDOMISE = "randomise"
"""The value of `train.domain` for the rows that end with it."""
FOCUS, NOISE = "focus", "noise"
"""Of `pipelines.evaluation.instrument_shifts`."""
ALL, LOST, MINUTES = "100%", "lost by focus and noise", "minutes to pretrain"
MINUTES_BAR, MINUTES_FORM = {MINUTES: "<= 60"}, {MINUTES: "{:.1f}"}

Pixels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Bench:
    """Where fits are kept, and how long they take."""

    sets: Sets

    @property
    def folder(self) -> Path:
        """The folder of what was fitted."""
        folder = self.sets.work / "pretrain"
        folder.mkdir(exist_ok=True)
        return folder

    def epochs(self, wanted: int) -> int:
        """Return so many epochs, one where the sets are small."""
        return 1 if self.sets.small else wanted

    def taught(self, pixels: Pixels, rows: Indices, settings: Train, views: dict[str, Any]) -> tuple[Path, float]:
        """Return the file of a backbone that was pretrained on `rows`, and the seconds that took."""
        params = self.sets.params.pretrain
        content = params.model_dump(mode="json") | PRETRAINING | views
        content["epochs"] = self.epochs(content["epochs"])
        content["batch_size"] = min(content["batch_size"], len(rows) // 2)
        path = self.folder / f"{_digest(content, settings, rows)}.safetensors"
        if not path.exists():
            started = time.monotonic()
            params = params.model_validate_json(json.dumps(content))
            network = loop.pretrain(pixels, rows, params, settings).network
            loop.save(network, path)
            path.with_suffix(".json").write_text(json.dumps(time.monotonic() - started))
        return path, float(json.loads(path.with_suffix(".json").read_text()))

    def tuned(self, divided: Divided, settings: Train, images: dict[str, Pixels]) -> dict[str, Indices]:
        """Return for each of the `images` the classes, by a network that was fitted from `settings.weights`."""
        path = self.folder / f"{_digest(settings, divided.examples.train)}.npz"
        known: dict[str, Indices] = dict(np.load(path)) if path.exists() else {}
        if set(images) - set(known):
            network = fit(divided.examples, len(divided.classes), settings, SEED, lambda *_: None).network
            known = {
                name: predict(network, pixels, np.arange(len(pixels))).logits.argmax(1)
                for name, pixels in images.items()
            }
            np.savez(path, **known)
        return known


PRETRAINING: dict[str, Any] = {"method": "simclr", "epochs": 10, "batch_size": 128, "minutes": 60}


def measure(sets: Sets) -> list[Row]:
    """Return what pretraining changes on malaria and on Jurkat."""
    bench = Bench(sets)
    return [*_malaria(bench), *_jurkat(bench)]


def _malaria(bench: Bench) -> list[Row]:
    whole = bench.sets.malaria
    settings = bench.sets.common.changed(MALARIA | SMALL | FROM_NOTHING)
    rows = np.sort(np.concatenate([whole.examples.train, whole.examples.validation]))
    weights, seconds = bench.taught(whole.examples.pixels, rows, settings, {})
    pretrained = settings.changed(FINE_TUNED | {"weights": str(weights)})
    starts = {NOTHING: settings, TUNED: pretrained}
    starts |= {f"{name}, {RANDOMISE}": start.changed({"domain": RANDOMISE}) for name, start in starts.items()}
    images = of_images(whole, bench.sets.work / "malaria" / "cells", SEED, (FOCUS, NOISE)).pixels
    embedded = _embed(whole, pretrained, images)
    values: dict[str, dict[str, float]] = {name: {} for name in (*starts, FROZEN)}
    for share, epochs in EPOCHS.items():
        labelled = _with_validation(whole if share == 1 else whole.with_labels(share))
        changes = {"epochs": bench.epochs(epochs), "batch_size": 64 if share == 1 else 32}
        taken = images if share == 1 else {LIKE: images[LIKE]}
        right = {name: bench.tuned(labelled, start.changed(changes), taken) for name, start in starts.items()}
        right[FROZEN] = _classify_frozen(labelled, embedded)
        for name, predicted in right.items():
            values[name][f"{share:.0%}"] = _accuracy(whole, predicted[LIKE])
            low, high = _interval(whole, predicted[LIKE])
            values[name][f"± at {share:.0%}"] = (high - low) / 2
            if share == 1:
                shifted = {shift: _accuracy(whole, predicted[shift]) for shift in (FOCUS, NOISE)}
                lost = values[name][ALL] - sum(shifted.values()) / len(shifted)
                values[name] |= shifted | {LOST: lost}
    for name in (TUNED, f"{TUNED}, {RANDOMISE}", FROZEN):
        values[name][MINUTES] = seconds / 60
    full, lost = values[NOTHING][ALL], values[NOTHING][LOST]
    bars = {"10%": f">= {full - 0.01:.4f}", "1%": f">= {0.95 * full:.4f}", LOST: f"<= {0.5 * lost:.4f}"} | MINUTES_BAR
    return [
        Row(f"malaria, {name}", columns, bars if "pretrained" in name else {}, MINUTES_FORM)
        for name, columns in values.items()
    ]


def _jurkat(bench: Bench) -> list[Row]:
    folds = bench.sets.jurkat
    settings = bench.sets.common.changed(JURKAT_FIT | SMALL | FROM_NOTHING | {"epochs": bench.epochs(40)})
    # The same for all folds: the cells that none of them tests.
    rows = np.setdiff1d(bench.sets.jurkat_unlabelled, np.concatenate([fold.test for fold in folds]))
    rows = rows[::40] if bench.sets.small else rows
    weights, seconds = bench.taught(folds[0].examples.pixels, rows, settings, SIZES)
    pretrained = settings.changed(FINE_TUNED | {"weights": str(weights)})
    table = []
    for name, chosen in ((NOTHING, settings), (TUNED, pretrained)):
        of_folds = [_accuracy(fold, bench.tuned(fold, chosen, _like(fold))[LIKE]) for fold in folds]
        columns = {ALL: float(np.mean(of_folds)), f"± at {ALL}": float(np.std(of_folds, ddof=1))}
        if chosen is settings:
            table.append(Row(f"Jurkat, {name}", columns))
        else:
            bars = {ALL: ">= 0.85"} | MINUTES_BAR
            table.append(Row(f"Jurkat, {name}", columns | {MINUTES: seconds / 60}, bars, MINUTES_FORM))
    return table


def _with_validation(divided: Divided) -> Divided:
    """Return the same cells with the labelled ones of validation among those to train on."""
    return Divided(divided.examples.merge_validation(), divided.test, divided.classes, divided.groups)


def _like(divided: Divided) -> dict[str, Pixels]:
    """Return the test cells as they are."""
    return {LIKE: divided.examples.pixels[divided.test]}


def _embed(divided: Divided, settings: Train, images: dict[str, Pixels]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the embeddings of the `images` by the weights of `settings`; `all` are those of all cells."""
    network, pixels = build_network(settings, len(divided.classes), divided.examples.kinds), divided.examples.pixels
    return {
        name: predict(network, taken, np.arange(len(taken))).embedding
        for name, taken in ({"all": pixels} | images).items()
    }


def _classify_frozen(divided: Divided, embedded: dict[str, npt.NDArray[np.float32]]) -> dict[str, Indices]:
    """Return shift → the classes of the test cells by logistic regression on their embeddings."""
    rows = divided.examples.train
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
    model.fit(embedded["all"][rows], divided.examples.targets[rows])
    return {name: model.predict(values) for name, values in embedded.items() if name != "all"}


def _accuracy(divided: Divided, predicted: Indices) -> float:
    return float(balanced_accuracy_score(divided.examples.targets[divided.test], predicted))


def _interval(divided: Divided, predicted: Indices) -> tuple[float, float]:
    """Return the 95 % interval of the balanced accuracy by bootstrap over the groups of the test cells."""
    targets, groups = divided.examples.targets[divided.test], divided.groups[divided.test]
    names, codes = np.unique(groups, return_inverse=True)
    classes = len(divided.classes)
    cells, right = (np.zeros((len(names), classes)) for _ in range(2))
    np.add.at(cells, (codes, targets), 1)
    np.add.at(right, (codes, targets), predicted == targets)
    drawn = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), BOOTSTRAPS)
    accuracies = ((drawn @ right) / np.maximum(drawn @ cells, 1)).mean(1)
    low, high = np.quantile(accuracies, [0.025, 0.975])
    return float(low), float(high)


def _digest(*parts: object) -> str:
    """Return a name for a fit that depends on these settings and rows."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            content = part.model_dump(mode="json") if isinstance(part, Train) else part
            digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()[:16]
