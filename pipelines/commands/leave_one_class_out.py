"""Train without one class, and see how the model classifies cells of it (the question of Zhu et al. 2021).

The model must assign cells of a medium that it has never seen to one of its classes. Whether they are assigned to the
class that they resemble, and recognised as unlike the training cells, says more about a model than its accuracy.

Writes `MEDIUM.json` (a `LeftOutReport`) and `MEDIUM.png`, with `_` for what is neither letter nor digit, and a hash
where that would be the name of another class too.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pydantic import Field
from sklearn.metrics import balanced_accuracy_score

from fatescope import plural
from fatescope.config import Params, Train, load
from fatescope.data import dataset, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.data.splits import load as load_splits
from fatescope.errors import ParamsError
from fatescope.inference import composition, uncertainty
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation import drawing, plots
from pipelines.evaluation.known_before import leave_out as without_known
from pipelines.evaluation.report import Report
from pipelines.pretraining.result import PRETRAINED
from pipelines.training import selection
from pipelines.training.candidate_fits import untracked
from pipelines.training.cross_fit import deal_folds
from pipelines.training.examples import load_examples
from pipelines.training.known_before import hashes_known_before
from pipelines.training.prediction import predict
from pipelines.training.selection import Candidate, Refit

MAX_BYTES = 150
"""Of the name of a class in that of a file; file systems take 255 in all."""


class KnownCells(Report):
    """Test cells of the classes that the model was trained on, for comparison."""

    balanced_accuracy: float
    unlike: float
    """Share of cells unlike the training cells."""
    unsure: float
    """Share of cells with several classes in their conformal set."""
    mean_confidence: float


class LeftOutReport(Report):
    """How a model classifies the test cells of a class that it was not trained on."""

    task: str
    medium: str
    """The class that was left out."""
    classes: list[str]
    """The classes that the model was trained on."""
    scheme: str = Field(alias="split")
    cells: int
    called: dict[str, float]
    """Class → share of the cells that are classified as it."""
    composition: dict[str, float]
    """Class → share, corrected by expectation maximisation."""
    unlike: float
    unsure: float
    mean_confidence: float
    trained: KnownCells


def leave_out(
    source: CellDataset, splits: Splits, task: str, medium: str, settings: Train, params: Params
) -> LeftOutReport:
    """Fit `settings` on the classes of `task` without `medium`, and classify the test cells of `medium`.

    Raises ParamsError where `medium` is no class of the task, or fewer than two others are left, or where
    `train.weights` has learned from its cells.
    """
    everything = params.classes(task)
    classes = [name for name in everything if name != medium]
    if medium not in everything or len(classes) < 2:
        raise ParamsError(f"task '{task}' has the classes {everything}: leaving out '{medium}' needs two others")
    scheme = splits.available(everything)[0]
    _check_weights(settings, source, medium)
    examples = load_examples(source, splits, scheme, classes)
    groups = source.manifest["group"].to_numpy(str)
    of_cells = tracks.read(source, params.dataset)
    folds = deal_folds(examples, groups, params.calibrate, whole=scheme == "grouped", tracks=of_cells)
    [candidate] = selection.train_candidates(examples, folds, len(classes), [[settings]], params, untracked)
    model = selection.refit_candidate(candidate, examples, len(classes), params.train.seeds[0], params, untracked)
    tested, left_out = splits.indices(scheme, "test", classes), splits.indices(scheme, "test", [medium])
    known, unseen = (_assess(candidate, model, source, rows) for rows in (tested, left_out))
    shares = composition.estimate(unseen.probabilities, candidate.prior, candidate.calibration.composition_error).shares
    accuracy = balanced_accuracy_score(examples.targets[tested], known.probabilities.argmax(1))
    return LeftOutReport(
        task=task,
        medium=medium,
        classes=classes,
        scheme=scheme,
        cells=len(left_out),
        called={name: float((unseen.probabilities.argmax(1) == k).mean()) for k, name in enumerate(classes)},
        composition=dict(zip(classes, shares.tolist(), strict=True)),
        **_caution(unseen),
        trained=KnownCells(balanced_accuracy=float(accuracy), **_caution(known)),
    )


def _check_weights(settings: Train, source: CellDataset, medium: str) -> None:
    """Raise ParamsError where a bundle, whose weights the network begins with, was trained on cells of `medium`."""
    rows = np.flatnonzero((source.manifest["label"] == medium).to_numpy(bool))
    if len(without_known(rows, source, hashes_known_before([settings.weights]), None)) < len(rows):
        raise ParamsError(
            f"train.weights: {settings.weights} was trained on cells of {medium}; set it to none, or to weights of "
            "other cells, to leave the class out"
        )


def _assess(candidate: Candidate, model: Refit, source: CellDataset, rows: npt.NDArray[np.int64]) -> Assessment:
    """Return the assessment of the cells in `rows`."""
    output, calibration = predict(model.network, source.pixels, rows), candidate.calibration
    prediction = uncertainty.Prediction(output.logits, output.embedding, np.empty(0, np.float32))
    return uncertainty.assess_prediction(
        prediction, calibration.conformal, calibration.outlier_threshold, model.outliers
    )


def _caution(assessment: Assessment) -> dict[str, float]:
    """Return how often the model abstains, and how confident it is."""
    return {
        "unlike": float((assessment.verdicts == uncertainty.UNLIKE).mean()),
        "unsure": float((assessment.verdicts == uncertainty.UNSURE).mean()),
        "mean_confidence": float(assessment.probabilities.max(1).mean()),
    }


def draw(report: LeftOutReport) -> Figure:
    """Draw how the cells of the medium are classified, and how often they are recognised as new."""
    figure = Figure(figsize=(7.5, 0.6 + 0.42 * (len(report.classes) + 2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(report.called)
    left.barh(names, list(report.called.values()), color=plots.COLOURS[: len(names)])
    cells = plural.count(report.cells, "cell")
    left.set(xlim=(0, 1), xlabel=f"share of {cells} of {report.medium}", title="predicted class")
    trained = report.trained
    new, known = (report.unsure, report.unlike), (trained.unsure, trained.unlike)
    bars = ((report.medium, new, "#b2182b"), ("classes trained on", known, "#8a8a8a"))
    for offset, (label, shares, colour) in enumerate(bars):
        right.barh(np.arange(2) + 0.38 * offset, shares, height=0.36, color=colour, label=label)
    right.set_yticks(np.arange(2) + 0.19, ["unsure", "unlike training"])
    right.set(xlim=(0, 1), xlabel="share of cells", title="recognised as new?")
    right.legend(loc="best", frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def file_name(name: str, classes: list[str]) -> str:
    """Return the name of the files about the class `name`, another one for each of `classes`."""
    plain = _plain(name)
    if sum(_plain(other) == plain for other in classes) == 1 and len(plain.encode()) <= MAX_BYTES:
        return plain
    short = plain.encode()[:MAX_BYTES].decode(errors="ignore")
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)


def main(params: Path, task: str, medium: str, source: Path, parts: Path, best: Path, target: Path) -> LeftOutReport:
    """Train a task without its class `medium`, and report how its cells are classified.

    Writes `MEDIUM.json` and `MEDIUM.png` into the folder `target`, and returns the content of the first.
    """
    drawing.prepare()
    settings = load(params)
    if settings.train.weights == PRETRAINED:
        raise ParamsError(
            f"train.weights: {PRETRAINED}, but that backbone was taught on cells of {medium} too; set it to none to "
            "leave the class out"
        )
    # The network that was searched for, with labels alone.
    found = json.loads(best.read_text(encoding="utf-8"))["best"]["params"]
    fit = settings.train.changed(found | {"distil": False})
    report = leave_out(dataset.load(source), load_splits(parts), task, medium, fit, settings)
    name = file_name(medium, settings.classes(task))
    report.write(target / f"{name}.json")
    draw(report).savefig(target / f"{name}.png", dpi=120)
    return report
