"""The cells that the parts of the benchmark train on, read once for all of them.

malaria is divided by patient and the default cells by run (the scheme `grouped`). The Jurkat cells allow no groups:
they are divided at random into five folds.
"""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from benchmarks.accuracy import CELLS_PER_CLASS, FOLDS, JURKAT, SEED, Indices, load_set
from fatescope import config
from fatescope.config import Params, Train
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset, class_indices
from pipelines.commands import simulate
from pipelines.stages import ingest, split
from pipelines.training.ensemble import sample_evenly
from pipelines.training.examples import Examples, load_examples

FEW = 40
"""Cells of a class that are trained on, and tested, where the sets are small; fewer to validate on."""
ONE_THREAD = {"threads": 1}
"""Fits of these sizes do not fill two cores; two programs with a thread each do."""


@dataclass(frozen=True)
class Divided:
    """Labelled cells with their training, validation and test rows, none of whose groups is in two of them."""

    examples: Examples
    """With `train` and `validation`; the rows of `test` have their targets as well."""
    test: Indices
    classes: tuple[str, ...]
    groups: Indices
    """(N,) the acquisition group of each cell, as a number."""

    def with_labels(self, share: float, seed: int = SEED) -> "Divided":
        """Return the same cells with labels for a `share` of those of each class to train and to validate on.

        At least two cells of a class stay in each; the test cells are the same.
        """
        examples, rng = self.examples, np.random.default_rng(seed)
        train, validation = (
            self._sample(rows, share, rng) if len(rows) else rows for rows in (examples.train, examples.validation)
        )
        kept = Examples(examples.pixels, examples.targets, train, validation, examples.kinds)
        return Divided(kept, self.test, self.classes, self.groups)

    def _sample(self, rows: Indices, share: float, rng: np.random.Generator) -> Indices:
        kept = []
        for k in range(len(self.classes)):
            of_class = rows[self.examples.targets[rows] == k]
            kept.append(rng.choice(of_class, min(len(of_class), max(2, round(share * len(of_class)))), replace=False))
        return np.sort(np.concatenate(kept))


class Sets:
    """The sets of cells by name, ingested below `work` when they are first asked for, and found there again."""

    def __init__(self, archives: Path, work: Path | None = None, small: bool = False) -> None:
        """Read `malaria.zip` and `jurkat_ifc.zip` of `archives`; with `small`, FEW cells of a class of each set."""
        self._archives, self.small = archives, small
        self.imagenet = archives / "mobilenet_v2_imagenet.safetensors"
        self._temporary = None if work else tempfile.TemporaryDirectory(prefix="fatescope-bench-")
        self.work = work or Path(self._temporary.name)  # type: ignore[union-attr]  # one of the two is there
        self.work.mkdir(parents=True, exist_ok=True)

    @cached_property
    def params(self) -> Params:
        """The settings of `params.yaml`."""
        return config.load(Path("params.yaml"))

    @property
    def common(self) -> Train:
        """The section `train`, with one thread."""
        return self.params.train.changed(ONE_THREAD)

    @cached_property
    def malaria(self) -> Divided:
        """21,500 cells of thin smears, parasitized or not, divided by patient."""
        cells, params = self._load("malaria")
        return self._divide(cells, self.work / "malaria", "grouped", tuple(params.classes("binary")))

    @cached_property
    def jurkat(self) -> list[Divided]:
        """900 cells each of G1, S_phase and G2 in five folds."""
        cells, _ = self._load("jurkat_ifc")
        labels = cells.manifest["label"].to_numpy(str)
        rng, count = np.random.default_rng(SEED), FEW if self.small else CELLS_PER_CLASS
        chosen = [rng.choice(np.flatnonzero(labels == name), count, replace=False) for name in JURKAT]
        rows = np.sort(np.concatenate(chosen))
        targets = np.array([JURKAT.index(x) if x in JURKAT else -1 for x in labels], np.int64)
        divisions = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(rows, targets[rows])
        groups = np.unique(cells.manifest["group"].to_numpy(str), return_inverse=True)[1]
        return [
            Divided(Examples(cells.pixels, targets, rows[a], rows[:0], cells.kinds), rows[b], JURKAT, groups)
            for a, b in divisions
        ]

    @cached_property
    def jurkat_unlabelled(self) -> Indices:
        """Rows of all Jurkat cells, whatever their class and whether or not a fold tests them."""
        return np.arange(len(self.jurkat[0].examples.targets))

    def default(self, task: str = "binary") -> Divided:
        """Return the cells that `fatescope data simulate` draws (a sixth when `small`), divided by run."""
        folder = self.work / "default"
        if not (folder / "splits.parquet").exists():
            folder.mkdir(parents=True, exist_ok=True)
            text = Path("params.yaml").read_text(encoding="utf-8")
            cells = f"\n  cells: {self.params.simulate.cells}\n"
            assert cells in text, "params.yaml gives simulate.cells a line"
            fewer = cells.replace(str(self.params.simulate.cells), str(self.params.simulate.cells // 6))
            path = folder / "params.yaml"
            path.write_text(text.replace(cells, fewer) if self.small else text, encoding="utf-8")
            simulate.simulate(config.load(path).simulate, folder / "data")
            ingest.main(path, folder / "data", folder / "cells")
            split.main(path, folder / "cells", folder / "splits.parquet")
        cells = dataset.load(folder / "cells")
        return self._divide(cells, folder, "grouped", tuple(self.params.classes(task)))

    def _load(self, name: str) -> tuple[CellDataset, Params]:
        folder = self.work / name
        if not (folder / "splits.parquet").exists():
            load_set(self._archives / f"{name}.zip", name, folder)
        return dataset.load(folder / "cells"), config.load(folder / "params.yaml")

    def _divide(self, cells: CellDataset, folder: Path, scheme: str, classes: tuple[str, ...]) -> Divided:
        parts = splits.load(folder / "splits.parquet")
        examples = load_examples(cells, parts, scheme, list(classes))
        examples = Examples(
            cells.pixels,
            class_indices(cells.manifest["label"], list(classes)),
            examples.train,
            examples.validation,
            cells.kinds,
        )
        groups = np.unique(cells.manifest["group"].to_numpy(str), return_inverse=True)[1]
        divided = Divided(examples, parts.indices(scheme, "test", list(classes)), classes, groups)
        if self.small:
            fewer = divided.with_labels(min(1.0, FEW * len(classes) / len(examples.train)))
            return Divided(fewer.examples, sample_evenly(divided.test, FEW * len(classes)), classes, groups)
        return divided
