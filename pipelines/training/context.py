"""What all models of a task share: its cells and splits, its classes, and the versions of data and code."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.config import Params
from fatescope.data import dataset, splits, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.quality_gate import QualityGate
from fatescope.data.quality_table import CellQuality
from fatescope.data.splits import Splits
from fatescope.data.tracks import Tracks
from fatescope.errors import DataError, ParamsError
from pipelines.provenance.recipe import Recipe
from pipelines.training.examples import Examples, load_examples

log = logging.getLogger(__name__)

MIN_BACKGROUND = 1.0
"""Counts; normalisation cannot divide by a background below this."""


@dataclass(frozen=True)
class TrainingContext:
    """The cells of a task, and the facts that every bundle of the task records."""

    task: str
    """A name in `dataset.tasks`."""
    classes: list[str]
    """Class names in the order of the model's outputs."""
    params: Params
    cells: CellDataset
    splits: Splits
    confounded: dict[str, str]
    """Class → why it has no grouped split."""
    simulated: bool
    """Whether the cells are simulated."""
    data_hash: str
    """The version of the data."""
    git_commit: str
    """The version of the code; empty outside git."""
    gate: QualityGate | None = None
    """The limits of good single cells; None where they were not learned."""
    recipe: Recipe | None = None
    """How the models are made; None where nothing is to be recorded."""
    tracks: Tracks | None = None
    """Which cells are images of one over time; None where each is of another."""

    @property
    def schemes(self) -> list[str]:
        """The schemes on which the task can be tested; the model that is served is made on the first."""
        return self.splits.available(self.classes)

    @property
    def groups(self) -> npt.NDArray[np.signedinteger]:
        """(N,) acquisition groups of all cells, as numbers in the order of their names."""
        groups: npt.NDArray[np.signedinteger] = pd.Categorical(self.cells.manifest["group"]).codes
        return groups

    def examples(self, scheme: str) -> Examples:
        """Return the training and validation cells of `scheme`.

        Raises ParamsError where their background is too dark for `train.normalisation`.
        """
        examples = load_examples(self.cells, self.splits, scheme, self.classes)
        normalisation = self.params.train.normalisation
        background = float(self.cells.take(examples.train, ["background"])["background"].min())
        if normalisation != "contrast" and background < MIN_BACKGROUND:
            raise ParamsError(
                f"train.normalisation: {normalisation} divides by the background, but that is {background:.3g} counts "
                "in some cells; set contrast"
            )
        return examples


def load_context(
    params: Params, task: str, cells: Path, splits_file: Path, git_commit: str, quality: Path | None = None
) -> TrainingContext:
    """Read the cells in the folder `cells`, their splits, and the gates of their quality.

    Raises DataError where a class of `task` has no cells.
    """
    known, divided = dataset.load(cells, ["label", "group"]), splits.load(splits_file)
    classes, summary = params.classes(task), dataset.load_summary(cells)
    missing = sorted(set(classes) - set(known.manifest["label"].unique()))
    if missing:
        raise DataError(f"task '{task}' needs cells of {missing}, but {cells} has {summary['labels']}")
    confounded = divided.confounded_in(classes)
    for name, reason in confounded.items():
        log.warning("%s is confounded (%s): no grouped result for task %s", name, reason, task)
    return TrainingContext(
        task=task,
        classes=classes,
        params=params,
        cells=known,
        splits=divided,
        confounded=confounded,
        simulated=summary["origin"].get("origin") == "simulated",  # type: ignore[attr-defined]  # of JSON
        data_hash=str(summary["data_hash"]),
        git_commit=git_commit,
        gate=None if quality is None else CellQuality.load(quality, ["outside"]).gate,
        tracks=tracks.read(known, params.dataset),
    )
