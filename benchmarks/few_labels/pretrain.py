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
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.accuracy import JURKAT_FIT, MALARIA, SEED, Indices
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
FOCUS, NOISE = 1.5, 0.3
"""Shifts of test cells: standard deviations of a blur, px, and of noise, in units of that of the image."""
BOOTSTRAPS = 1000

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
        path = self.folder / f"{_digest(content, settings, rows)}.safetensors"
        if not path.exists():
            started = time.monotonic()
            params = params.model_validate_json(json.dumps(content))
            network = loop.pretrain(pixels, rows, params, settings).network
            loop.save(network, path)
            path.with_suffix(".json").write_text(json.dumps(time.monotonic() - started))
        return path, float(json.loads(path.with_suffix(".json").read_text()))

    def tuned(self, divided: Divided, settings: Train) -> dict[str, Indices]:
        """Return shift → the classes of the test cells, by a network that was fitted from `settings.weights`."""
        path = self.folder / f"{_digest(settings, divided.examples.train)}.npz"
        if not path.exists():
            network = fit(divided.examples, len(divided.classes), settings, SEED, lambda *_: None).network
            found = {
                name: predict(network, pixels, np.arange(len(pixels))).logits.argmax(1)
                for name, pixels in _shifted(divided).items()
            }
            np.savez(path, **found)
        return dict(np.load(path))


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
    values: dict[str, dict[str, float]] = {"from nothing": {}, "pretrained, fine-tuned": {}, "pretrained, frozen": {}}
    right: dict[str, dict[str, Indices]] = {}
    embedded = _embed(whole, pretrained)
    for share, epochs in EPOCHS.items():
        labelled = whole if share == 1 else whole.with_labels(share)
        labelled = _with_validation(labelled)
        changes = {"epochs": bench.epochs(epochs), "batch_size": 64 if share == 1 else 32}
        right = {
            "from nothing": bench.tuned(labelled, settings.changed(changes)),
            "pretrained, fine-tuned": bench.tuned(labelled, pretrained.changed(changes)),
            "pretrained, frozen": _classify_frozen(labelled, embedded),
        }
        for name, predicted in right.items():
            column = f"{share:.0%} of labels"
            values[name][column] = _accuracy(whole, predicted["like"])
            values[name][f"{column}, from"], values[name][f"{column}, to"] = _interval(whole, predicted["like"])
    for name, predicted in right.items():
        for shift in ("out of focus", "noisy"):
            values[name][f"100% of labels, {shift}"] = _accuracy(whole, predicted[shift])
    rows_of_table = [Row(f"malaria, {name}", columns) for name, columns in values.items()]
    return [*rows_of_table, *_bars(values), Row("malaria, pretraining, minutes of one thread",
            {"value": seconds / 60}, {"value": "<= 60"}, {"value": "{:.1f}"})]  # fmt: skip


def _bars(values: dict[str, dict[str, float]]) -> list[Row]:
    """Return what the accuracies at few labels, and under shifts, are in units of those at all labels."""
    full = values["from nothing"]["100% of labels"]
    lost = {
        name: sum(
            columns["100% of labels"] - columns[f"100% of labels, {shift}"] for shift in ("out of focus", "noisy")
        )
        for name, columns in values.items()
    }
    rows = []
    for name in ("pretrained, fine-tuned", "pretrained, frozen"):
        rows += [
            Row(f"malaria, {name}: 10% of labels less all labels from nothing",
                {"value": values[name]["10% of labels"] - full}, {"value": ">= -0.01"}),
            Row(f"malaria, {name}: 1% of labels, share of all labels from nothing",
                {"value": values[name]["1% of labels"] / full}, {"value": ">= 0.95"}),
            Row(f"malaria, {name}: loss under both shifts, share of that from nothing",
                {"value": lost[name] / max(lost["from nothing"], 1e-3)}, {"value": "<= 0.5"}),
        ]  # fmt: skip
    return rows


def _jurkat(bench: Bench) -> list[Row]:
    folds = bench.sets.jurkat
    settings = bench.sets.common.changed(JURKAT_FIT | SMALL | FROM_NOTHING | {"epochs": bench.epochs(40)})
    # The same for all folds: the cells that none of them tests.
    rows = np.setdiff1d(bench.sets.jurkat_unlabelled, np.concatenate([fold.test for fold in folds]))
    rows = rows[::6] if bench.sets.small else rows
    weights, seconds = bench.taught(folds[0].examples.pixels, rows, settings, SIZES)
    pretrained = settings.changed(FINE_TUNED | {"weights": str(weights)})
    table = []
    for name, chosen in (("from nothing", settings), ("pretrained, fine-tuned", pretrained)):
        of_folds = [_accuracy(fold, bench.tuned(fold, chosen)["like"]) for fold in folds]
        columns = {"100% of labels": np.mean(of_folds), "standard deviation over folds": np.std(of_folds, ddof=1)}
        bars = {"100% of labels": ">= 0.85"} if chosen is pretrained else {}
        table.append(Row(f"Jurkat, {name}", {key: float(value) for key, value in columns.items()}, bars))
    minutes = {"value": seconds / 60}
    return [*table, Row("Jurkat, pretraining, minutes of one thread", minutes, {"value": "<= 60"}, {"value": "{:.1f}"})]


def _with_validation(divided: Divided) -> Divided:
    """Return the same cells with the labelled ones of validation among those to train on."""
    return Divided(divided.examples.merge_validation(), divided.test, divided.classes, divided.groups)


def _shifted(divided: Divided) -> dict[str, Pixels]:
    """Return shift → the pixels of the test cells."""
    pixels = divided.examples.pixels[divided.test]
    images = pixels.astype(np.float32)
    noise = np.random.default_rng(SEED).standard_normal(images.shape, np.float32)
    noisy = images + NOISE * images.std((-2, -1), keepdims=True) * noise
    blurred = gaussian_filter(images, (0,) * (images.ndim - 2) + (FOCUS, FOCUS), mode="nearest")
    changed = {"out of focus": blurred, "noisy": noisy}
    return {"like": pixels} | {
        name: np.clip(np.round(values), 0, np.iinfo(np.uint16).max).astype(np.uint16)
        for name, values in changed.items()
    }


def _embed(divided: Divided, settings: Train) -> dict[str, npt.NDArray[np.float32]]:
    """Return shift → the embeddings of the test cells by the weights of `settings`; `all` are those of all cells."""
    network, pixels = build_network(settings, len(divided.classes), divided.examples.kinds), divided.examples.pixels
    embedded = {"all": predict(network, pixels, np.arange(len(pixels))).embedding}
    for name, shifted in _shifted(divided).items():
        embedded[name] = predict(network, shifted, np.arange(len(shifted))).embedding
    return embedded


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
