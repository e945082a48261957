"""What few labels teach a champion that was trained on other cells, beside a full training and simple features.

Run with `fatescope bench teaching --sets FOLDER`, where the folder holds `malaria.zip` and `jurkat_ifc.zip`; some
minutes on two cores. A compact network is trained on each set (Jurkat: brightfield alone, Ch3, because the label
follows the DNA stain), and taught the classes of the other from LABELS labels a class, DRAWS times.

- malaria: labels from patients that the test has none of;
- Jurkat: 900 cells each of G1, S_phase and G2, a third of them at random as the test, because all but G1 are from one
  montage.

The full training is the network that was trained on the very set. Simple features are `features.cell`, of the same
labels: the better of a logistic regression and gradient boosting on the test. It writes `reports/bench/teaching.json`.
"""

import json
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

from benchmarks.report import Figure, publish
from fatescope import config
from fatescope.command import run
from fatescope.config.presets import get_preset
from fatescope.data import dataset, features
from fatescope.data.dataset import CellDataset
from fatescope.networks.network import Network
from fatescope.teaching.lesson import Cells, teach
from pipelines.stages import ingest
from pipelines.training.examples import Examples
from pipelines.training.trainer import fit

SEED = 0
CLASSES = {"malaria": ("Parasitized", "Uninfected"), "jurkat_ifc": ("G1", "S_phase", "G2")}
CELLS_PER_CLASS = {"malaria": 2_000, "jurkat_ifc": 900}
LABELS, DRAWS = (10, 50, 200), 5
SMALL_CELLS, SMALL_EPOCHS = 400, 3
"""Cells of a class and epochs with `--small`, for a machine that others use: the networks are weak then."""
CANVAS = [50, 50]
"""One for both, so that no cell is cut off."""
EPOCHS = {"malaria": 8, "jurkat_ifc": 16}
FIT = {
    "backbone": "compact", "weights": "none", "input_size": [40, 40], "resize": "stretch", "batch_size": 64,
    "learning_rate": 5e-3, "normalisation": "background", "minutes": 600.0, "views": "one",
}  # fmt: skip
# The stain of an infected cell is darker than the cell, which the normalisation by contrast keeps.
FIT_OF = {"malaria": {"normalisation": "contrast"}, "jurkat_ifc": {}}
TESTED = 3
"""A group, or a cell of Jurkat, in so many is tested on."""
BATCH = 500

Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Source:
    """The cells of a set that take part."""

    name: str
    cells: CellDataset
    targets: Indices
    """(N,) of all cells, -1 for other classes."""
    train: Indices
    test: Indices

    @property
    def labels(self) -> Texts:
        """Return (N,) names of classes."""
        return np.array([*CLASSES[self.name], ""])[self.targets]

    @property
    def groups(self) -> Texts:
        """Return the (N,) acquisition groups."""
        return self.cells.manifest["group"].to_numpy(str)


def load(archive: Path, name: str, folder: Path, cells_per_class: int) -> Source:
    """Unpack and ingest a set."""
    content = json.loads(config.load(Path("params.yaml")).model_dump_json(by_alias=True))
    content["dataset"] |= get_preset(name).values()["dataset"]
    content["ingest"]["canvas"] = CANVAS
    folder.mkdir()
    (folder / "params.yaml").write_text(json.dumps(content))
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "data")
    ingest.main(folder / "params.yaml", folder / "data", folder / "cells")
    return choose(name, folder, cells_per_class)


def choose(name: str, folder: Path, cells_per_class: int) -> Source:
    """Choose cells to train on and to test with among those that were ingested."""
    cells, rng = dataset.load(folder / "cells"), np.random.default_rng(SEED)
    labels, groups = (cells.manifest[column].to_numpy(str) for column in ("label", "group"))
    targets = np.array([CLASSES[name].index(x) if x in CLASSES[name] else -1 for x in labels], np.int64)
    if name == "malaria":
        units = rng.permutation(np.unique(groups))
        held = np.isin(groups, units[: len(units) // TESTED])
    else:
        held = rng.permutation(len(labels)) < len(labels) // TESTED
    chosen = [rng.permutation(np.flatnonzero(targets == k))[:cells_per_class] for k in range(len(CLASSES[name]))]
    rows = np.sort(np.concatenate(chosen))
    return Source(name, cells, targets, rows[~held[rows]], rows[held[rows]])


def train(source: Source, epochs: int) -> Network:
    """Train the champion of a set."""
    settings = config.load(Path("params.yaml")).train.changed(FIT | FIT_OF[source.name] | {"epochs": epochs})
    examples = Examples(source.cells.pixels, source.targets, source.train, source.train[:0])
    network = fit(examples, len(CLASSES[source.name]), settings, SEED, lambda *_: None).network
    assert isinstance(network, Network)
    return network.eval()


@torch.inference_mode()
def look(network: Network, source: Source, rows: Indices) -> tuple[Floats, Floats]:
    """Return the (n, K) logits and the (n, C) embeddings of cells."""
    parts = []
    for start in range(0, len(rows), BATCH):
        pixels = torch.from_numpy(source.cells.pixels[rows[start : start + BATCH]].astype(np.float32))[:, None]
        outputs = network(pixels, maps=False)
        parts.append((outputs.logits.numpy(), outputs.embedding.numpy()))
    logits, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
    return logits, embedding


def describe(network: Network, source: Source, rows: Indices) -> Cells:
    """Return what a champion sees of cells, and their simple features."""
    of_cell = [features.cell(source.cells.pixels[rows[i : i + BATCH]]) for i in range(0, len(rows), BATCH)]
    acquisition = source.cells.manifest[list(features.ACQUISITION)].to_numpy(np.float32)[rows]
    return Cells(look(network, source, rows)[1], np.concatenate(of_cell), acquisition, source.groups[rows])


def draw(source: Source, count: int, rng: np.random.Generator) -> Indices:
    """Draw rows of `source.train`, `count` of each class."""
    of_train = source.targets[source.train]
    chosen = [rng.choice(np.flatnonzero(of_train == k), count, replace=False) for k in range(len(CLASSES[source.name]))]
    return np.sort(np.concatenate(chosen))


def measure(champion: Network, own: Network, source: Source) -> list[Figure]:
    """Teach `champion` the classes of another set, which the network `own` was trained on."""
    known, tested = (describe(champion, source, rows) for rows in (source.train, source.test))
    truth, classes = source.targets[source.test], list(CLASSES[source.name])
    full = float(balanced_accuracy_score(truth, look(own, source, source.test)[0].argmax(1)))
    figures = [Figure(f"{source.name}: full training, {len(source.train):,} cells", full)]
    for count in LABELS:
        found = np.zeros((DRAWS, 5))
        for number in range(DRAWS):
            rows = draw(source, count, np.random.default_rng(number))
            targets = source.targets[source.train][rows]
            began = time.process_time()
            lesson = teach(known.among(rows), np.array(classes)[targets], classes)
            seconds = time.process_time() - began
            called = lesson.head.logits(tested.embedding, tested.features).argmax(1)
            alone = teach(known.among(rows), np.array(classes)[targets], classes, ("features",)).head
            simple = alone.logits(tested.embedding, tested.features).argmax(1)
            boosted = HistGradientBoostingClassifier(max_iter=100, min_samples_leaf=5, random_state=SEED)
            boosted.fit(known.features[rows], targets)
            accuracies = [
                balanced_accuracy_score(truth, answer) for answer in (called, simple, boosted.predict(tested.features))
            ]
            found[number] = [*accuracies, lesson.accuracy.value, seconds]
        print(f"{source.name}, {count} labels a class: {found.mean(0).round(3)}", flush=True)
        taught, logistic, boosting, promised, _ = found.mean(0).tolist()
        simple_best = max(logistic, boosting)
        name = f"{source.name}: {count} labels a class"
        figures += [
            Figure(f"{name}, taught", taught),
            Figure(f"{name}, simple features, logistic regression", logistic),
            Figure(f"{name}, simple features, gradient boosting", boosting),
            Figure(f"{name}, taught less the better of these", taught - simple_best, ">= -0.005"),
            Figure(f"{name}, cross-validated less tested", promised - taught),
            Figure(f"{name}, seconds of a core, the slowest", float(found[:, -1].max()), "<= 10"),
        ]
    return figures


def main(
    sets: Annotated[Path, typer.Option("--sets", help="Folder that holds malaria.zip and jurkat_ifc.zip.")],
    small: Annotated[bool, typer.Option("--small", help="Weak networks, in a few minutes.")] = False,
) -> None:
    """Measure, print and write the figures."""
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as folder:
        sources = [
            load(sets / f"{name}.zip", name, Path(folder) / name, SMALL_CELLS if small else CELLS_PER_CLASS[name])
            for name in CLASSES
        ]
        networks = [train(source, SMALL_EPOCHS if small else EPOCHS[source.name]) for source in sources]
        figures = measure(networks[1], networks[0], sources[0]) + measure(networks[0], networks[1], sources[1])
    publish("teaching", figures, ["torch", "scikit-learn"], SEED)


if __name__ == "__main__":
    run(main)
