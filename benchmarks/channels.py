"""What a second channel is worth: Jurkat cells by cell-cycle phase, with brightfield alone and with darkfield.

Run with `fatescope bench channels --sets FOLDER`, where the folder holds `jurkat_ifc.zip`; some minutes on two cores.
900 cells each of G1, S_phase and G2, in five random folds, because all but G1 are from one montage; the same cells, the
same folds, settings and seed with both. It writes `reports/bench/channels.json` and the table in
`docs/explanation/results.md`.
"""

import json
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from scipy import stats
from sklearn.model_selection import StratifiedKFold

from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope import config
from fatescope.command import run
from fatescope.config import Train
from fatescope.config.presets import get_preset
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from pipelines.stages import ingest
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict
from pipelines.training.trainer import fit

SEED = 0
CLASSES = ("G1", "S_phase", "G2")
CELLS_PER_CLASS = 900
FOLDS = 5
CHANNELS = {"3": "brightfield", "6": "darkfield"}
PAGE = Path("docs/explanation/results.md")
# Not searched for: of the section train, with more epochs, because these cells are fewer and differ by less.
FIT = {
    "backbone": "compact", "weights": "none", "input_size": [40, 40], "epochs": 40, "batch_size": 64, "threads": 1,
    "learning_rate": 5e-3, "normalisation": "background", "minutes": 600.0,
}  # fmt: skip

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


def load_cells(archive: Path, folder: Path) -> CellDataset:
    """Unpack and ingest the cells with both channels."""
    content = json.loads(config.load(Path("params.yaml")).model_dump_json(by_alias=True))
    content["dataset"] |= get_preset("jurkat_ifc").values()["dataset"] | {"channels": CHANNELS}
    content["ingest"]["canvas"] = [40, 40]
    (folder / "params.yaml").write_text(json.dumps(content))
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "data")
    ingest.main(folder / "params.yaml", folder / "data", folder / "cells")
    return dataset.load(folder / "cells")


def first_channel(source: CellDataset) -> CellDataset:
    """Return the same cells as if they had been ingested with their first channel alone."""
    name, kind = next(iter(source.channels.items()))
    return replace(source, pixels=source.pixels[:, 0], channels={name: kind})


def predict_fold(source: CellDataset, targets: Indices, train: Indices, test: Indices, settings: Train) -> Indices:
    """Return the classes that a network, fitted on `train`, predicts for the cells of `test`."""
    examples = Examples(source.pixels, targets, train, train[:0], source.kinds)
    network = fit(examples, len(CLASSES), settings, SEED, lambda *_: None).network
    predicted: Indices = predict(network, source.pixels, test).logits.argmax(1)
    return predicted


def balanced_accuracy(right: Floats, targets: Indices) -> float:
    """Return the mean over classes of the share of cells that are right."""
    return float(np.mean([right[targets == k].mean() for k in range(len(CLASSES))]))


def difference_of_cells(right: Floats, targets: Indices) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a paired difference of balanced accuracies, for these networks.

    `right` is +1 for a cell that only one is right about, -1 for one that only the other is, else 0. The mean over
    classes of means of independent cells is close to normal.
    """
    of_class = [right[targets == k] for k in range(len(CLASSES))]
    error = np.sqrt(sum(values.var(ddof=1) / len(values) for values in of_class)) / len(CLASSES)
    reach = stats.norm.ppf(0.975) * error
    value = balanced_accuracy(right, targets)
    return value - reach, value + reach


def difference_of_fits(differences: Floats) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the difference for networks that are fitted anew.

    The folds share most of their training cells, for which their variance is corrected (Nadeau and Bengio 2003).
    """
    spread = np.sqrt((1 / FOLDS + 1 / (FOLDS - 1)) * differences.var(ddof=1))
    reach = stats.t.ppf(0.975, FOLDS - 1) * spread
    return float(differences.mean() - reach), float(differences.mean() + reach)


def main(
    sets: Annotated[Path, typer.Option("--sets", help="Folder that holds jurkat_ifc.zip.")],
) -> None:
    """Measure, print and write the figures, and the table of the documentation."""
    settings = config.load(Path("params.yaml")).train.changed(FIT)
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        both = load_cells(sets / "jurkat_ifc.zip", Path(name))
        labels, rng = both.manifest["label"].to_numpy(str), np.random.default_rng(SEED)
        chosen = [rng.choice(np.flatnonzero(labels == label), CELLS_PER_CLASS, replace=False) for label in CLASSES]
        rows = np.sort(np.concatenate(chosen))
        targets = np.array([CLASSES.index(x) if x in CLASSES else -1 for x in labels], np.int64)
        divisions = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(rows, targets[rows])
        folds = [(rows[a], rows[b]) for a, b in divisions]
        # Two fits at a time with one thread each: steps as small as these do not fill two cores.
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            jobs = [
                [pool.submit(predict_fold, source, targets, *fold, settings) for fold in folds]
                for source in (first_channel(both), both)
            ]
            right = np.zeros((2, len(both)))
            for of_source, results in zip(right, jobs, strict=True):
                for (_, test), result in zip(folds, results, strict=True):
                    of_source[test] = result.result() == targets[test]
    per_fold = np.array([[balanced_accuracy(one[test], targets[test]) for _, test in folds] for one in right])
    gain = (right[1] - right[0])[rows]
    of_cells, of_fits = difference_of_cells(gain, targets[rows]), difference_of_fits(per_fold[1] - per_fold[0])
    signed = {"difference": "{:+.1%}", "from": "{:+.1%}", "to": "{:+.1%}"}
    lines = [
        *(
            Row(label, {"balanced accuracy": float(values.mean()), "standard deviation of folds": values.std(ddof=1)})
            for label, values in zip(("brightfield", "brightfield and darkfield"), per_fold, strict=True)
        ),
        Row(
            "gain, 95 % interval over cells, for these networks",
            {"difference": balanced_accuracy(gain, targets[rows]), "from": of_cells[0], "to": of_cells[1]},
            forms=signed,
        ),
        Row(
            "gain, 95 % interval over folds, for networks fitted anew",
            {"difference": float(np.diff(per_fold.mean(1))[0]), "from": of_fits[0], "to": of_fits[1]},
            forms=signed,
        ),
    ]
    publish("channels", to_figures("Jurkat", lines), ["torch", "scikit-learn"], SEED)
    fill(PAGE, {"channels": table(lines)})


if __name__ == "__main__":
    run(main)
