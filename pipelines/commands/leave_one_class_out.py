"""Ask what a model calls the cells of a medium that it was not trained with (the question of Zhu et al. 2021).

Cells of an inducer that the model has never seen must be called something; whether they are called what they resemble,
and whether the model notices that they are new, says more about it than its accuracy.

`MEDIUM.json`: `task`, `medium`, `classes` (those trained on), `split`, `cells`, `called` (class → share of the held-out
cells), `composition` (class → share, corrected), `unlike` and `unsure` (shares of verdicts), `mean_confidence`, and
`trained` (`balanced_accuracy`, `unlike`, `unsure`, `mean_confidence` of test cells of the other media, to compare).
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import typer
from matplotlib.figure import Figure
from sklearn.metrics import balanced_accuracy_score

from fatescope.command import BestFile, CellsFolder, OutFolder, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, Train, load
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import ParamsError
from fatescope.inference import composition, uncertainty
from pipelines.evaluation import plots
from pipelines.training import selection
from pipelines.training.examples import load_examples
from pipelines.training.prediction import predict
from pipelines.training.trainer import Report

log = logging.getLogger(__name__)


def held_out(
    source: CellDataset, divided: Splits, task: str, medium: str, settings: Train, params: Params
) -> dict[str, Any]:
    """Fit `settings` on the classes of `task` without `medium`, and judge the test cells of `medium`.

    Raises ParamsError where `medium` is no class of the task, or fewer than two others are left.
    """
    everything = params.classes(task)
    classes = [name for name in everything if name != medium]
    if medium not in everything or len(classes) < 2:
        raise ParamsError(f"task '{task}' has the classes {everything}: holding out '{medium}' needs two others")
    split = divided.available(everything)[0]
    examples = load_examples(source, divided, split, classes)
    groups = source.manifest["group"].to_numpy(str)
    [candidate] = selection.train_candidates(examples, groups, len(classes), [[settings]], params, _untracked)
    made = selection.refit_candidate(candidate, examples, len(classes), params.train.seeds[0], params, _untracked)

    def assess(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        found = predict(made.network, source.pixels, rows)
        calibration = candidate.calibration
        said = uncertainty.Prediction(found.logits, found.embedding, np.empty(0, np.float32))
        limits = calibration.conformal, calibration.outlier_threshold
        judged = uncertainty.assess_prediction(said, *limits, made.outliers)
        return judged.probabilities, {
            "unlike": float((judged.verdicts == uncertainty.UNLIKE).mean()),
            "unsure": float((judged.verdicts == uncertainty.UNSURE).mean()),
            "mean_confidence": float(judged.probabilities.max(1).mean()),
        }

    tested = divided.indices(split, "test", classes)
    known, figures = assess(tested)
    rows = divided.indices(split, "test", [medium])
    unseen, answer = assess(rows)
    shares = composition.estimate(unseen, candidate.prior, candidate.calibration.composition_error).shares
    return {
        "task": task,
        "medium": medium,
        "classes": classes,
        "split": split,
        "cells": len(rows),
        "called": {name: float((unseen.argmax(1) == k).mean()) for k, name in enumerate(classes)},
        "composition": dict(zip(classes, shares.tolist(), strict=True)),
        **answer,
        "trained": {
            "balanced_accuracy": float(balanced_accuracy_score(examples.targets[tested], known.argmax(1))),
            **figures,
        },
    }


@contextmanager
def _untracked(_name: str, _settings: Train) -> Iterator[Report]:
    yield lambda *_: None


def draw(report: dict[str, Any]) -> Figure:
    """Draw what the cells of the medium are called, and how often the model notices that they are new."""
    figure = Figure(figsize=(7.5, 0.6 + 0.42 * (len(report["classes"]) + 2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(report["called"])
    left.barh(names, list(report["called"].values()), color=plots.COLOURS[: len(names)])
    left.set(xlim=(0, 1), xlabel=f"share of {report['cells']} cells of {report['medium']}", title="called")
    kinds = ("unsure", "unlike")
    for offset, (label, found, colour) in enumerate(
        ((report["medium"], report, "#b2182b"), ("media of the training", report["trained"], "#8a8a8a"))
    ):
        places = np.arange(len(kinds)) + 0.38 * offset
        right.barh(places, [found[kind] for kind in kinds], height=0.36, color=colour, label=label)
    right.set_yticks(np.arange(len(kinds)) + 0.19, ["unsure", "unlike training"])
    right.set(xlim=(0, 1), xlabel="share of cells", title="does it notice?")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(
    params: ParamsFile,
    task: TaskName,
    medium: Annotated[str, typer.Option("--medium", help="Class to leave out of training.")],
    source: CellsFolder,
    parts: SplitsFile,
    best: BestFile,
    target: OutFolder,
) -> None:
    """Train a task without one of its classes, and report what its cells are called."""
    mpl.use("Agg")
    settings = load(params)
    fit = settings.train.changed(json.loads(best.read_text())["best"]["params"])
    report = held_out(dataset.load(source), splits.load(parts), task, medium, fit, settings)
    target.mkdir(parents=True, exist_ok=True)
    name = "".join(each if each.isalnum() else "_" for each in medium)
    (target / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(report).savefig(target / f"{name}.png", dpi=120)
    called = ", ".join(f"{share:.0%} {each}" for each, share in report["called"].items())
    log.info("cells of %s, never seen: called %s; unlike %.0f %%", medium, called, 100 * report["unlike"])


if __name__ == "__main__":
    run(main)
