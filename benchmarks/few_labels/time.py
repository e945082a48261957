"""What several images of a cell over time add: accuracy, calibration and how early the call settles.

The cells are those that `fatescope data simulate` draws with the preset `followed`. Each acquisition group is tested by
a model that was trained, and whose evidence was fitted, on other groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.accuracy import SEED
from benchmarks.few_labels.sets import ONE_THREAD, Sets
from benchmarks.tables import Row
from fatescope import config, plural
from fatescope.config import Params, Train
from fatescope.config.editing import set_fields
from fatescope.config.presets import apply_preset
from fatescope.data import dataset, tracks
from fatescope.data.dataset import CellDataset, class_indices
from fatescope.data.tracks import Tracks
from fatescope.inference.track_evidence import TrackEvidence
from pipelines.commands import simulate
from pipelines.evaluation import track_metrics
from pipelines.evaluation.track_metrics import Followed
from pipelines.stages import ingest
from pipelines.training import selection, trainer
from pipelines.training.cross_fit import deal_folds
from pipelines.training.examples import Examples
from pipelines.training.prediction import predict

TASK, OUTER, INNER, BINS, RESAMPLES = "multiclass", 2, 4, 10, 1000
Indices = npt.NDArray[np.int64]


def measure(sets: Sets) -> list[Row]:
    """Return a row for each number of images."""
    params, cells = followed_cells(sets)
    of_cells = tracks.read(cells, params.dataset)
    assert of_cells is not None, "the preset names tracks"
    classes = params.classes(TASK)
    targets = class_indices(cells.manifest["label"], classes)
    groups = np.unique(cells.manifest["group"].to_numpy(str), return_inverse=True)[1]
    folds = StratifiedGroupKFold(OUTER, shuffle=True, random_state=SEED)
    settings = params.train.changed(ONE_THREAD | ({"epochs": 6} if sets.small else {}))
    parts, units, fitted = [], [], []
    for known, tested in folds.split(targets, targets, groups):
        part, order, how = _answer(params, settings, cells, targets, groups, of_cells, known, tested)
        parts.append(part)
        units.append(groups[order])
        fitted.append(how)
    # Metrics see tracks one after the other, whatever the model that answered each.
    starts = np.concatenate([part.starts + offset for part, offset in zip(parts, _offsets(parts), strict=True)])
    names = ("targets", "single", "counts", "after")
    joined = Followed(starts, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return _rows(joined, np.concatenate(units), np.full(len(classes), 1 / len(classes)), fitted, params)


def followed_cells(sets: Sets) -> tuple[Params, CellDataset]:
    """Return the settings and the simulated cells, drawn below `sets.work` when they are first asked for."""
    folder = sets.work / "followed"
    path = folder / "params.yaml"
    if not (folder / "cells").exists():
        folder.mkdir(parents=True, exist_ok=True)
        copyfile(Path("params.yaml"), path)
        apply_preset(path, "followed")
        drawn = config.load(path).simulate.cells // (6 if sets.small else 1)
        params = set_fields(path, {"simulate": {"cells": drawn, "marker_channels": 0, "darkfield": False}})
        simulate.simulate(params.simulate, folder / "data", workers=1)
        ingest.main(path, folder / "data", folder / "cells")
    return config.load(path), dataset.load(folder / "cells")


def _answer(  # noqa: PLR0913, PLR0917  what is known of the cells
    params: Params,
    settings: Train,
    cells: CellDataset,
    targets: Indices,
    groups: Indices,
    of_cells: Tracks,
    known: Indices,
    tested: Indices,
) -> tuple[Followed, Indices, TrackEvidence]:
    """Train on the rows `known` and answer those `tested`; return the answers, their rows, and the evidence."""
    inner = StratifiedGroupKFold(INNER, shuffle=True, random_state=SEED)
    train, validation = next(inner.split(known, targets[known], groups[known]))
    examples = Examples(cells.pixels, targets, known[train], known[validation], cells.kinds)
    folds = deal_folds(examples, groups, params.calibrate, whole=True, tracks=of_cells)
    size = len(params.classes(TASK))
    [candidate] = selection.train_candidates(examples, folds, size, [[settings]], params, _untracked)
    refit = selection.refit_candidate(candidate, examples, size, params.train.seeds[0], params, _untracked)
    output = predict(refit.network, cells.pixels, tested)
    how = candidate.calibration.tracks
    assert how is not None, "there are enough cells"
    counts = refit.outliers.score(output.embedding) <= candidate.calibration.outlier_threshold
    part = of_cells.take(tested)
    answered = track_metrics.follow(softmax(output.logits, axis=1), counts, targets[tested], part, candidate.prior, how)
    return answered, tested[part.in_order()[0]], how


def _rows(
    followed: Followed, units: Indices, prior: npt.NDArray[np.float64], fitted: list[TrackEvidence], params: Params
) -> list[Row]:
    # Only how images would count as independent is taken from it, which is the same for all.
    metrics = track_metrics.measure(followed, prior, fitted[0], params.calibrate.coverage, BINS)
    assert metrics is not None, "there are enough cells"
    forms = {"calibration error": "{:.3f}", "of one image": "{:.3f}", "above it": "{:+.3f}", "independent": "{:.3f}"}
    rows = []
    since, sure = track_metrics.settle(followed, params.calibrate.coverage)
    for row in metrics.frames:
        chosen = np.flatnonzero(followed.number == row.frames)
        low, high = _interval(followed.after[chosen].argmax(1) == followed.targets[chosen], units[chosen])
        values = {
            "balanced accuracy": row.balanced_accuracy,
            "low": low,
            "high": high,
            "by that image alone": row.accuracy_alone,
            "calibration error": row.calibration.ece,
            "of one image": row.alone.ece,
            "above it": row.calibration.ece - row.alone.ece,
            "independent": row.undiscounted.ece,
            "last call stays": row.settled,
            "sure call stays": float(((sure > 0) & (sure <= row.frames)).mean()),
        }
        name = plural.count(row.frames, "image")
        rows.append(Row(name, values, {"above it": "<= 0.01"}, forms))
    correlations = [how.correlation for how in fitted]
    summary = {
        "correlation, mean of folds": float(np.mean(correlations)),
        "images until the last call stays, mean": float(since.mean()),
        "right when sure": float(metrics.accuracy_of_sure or np.nan),
    }
    short = {"correlation, mean of folds": "{:.2f}", "images until the last call stays, mean": "{:.1f}"}
    return [*rows, Row("all", summary, {}, short)]


def _interval(right: npt.NDArray[np.bool_], units: Indices) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy, from a bootstrap over acquisition groups; classes are of equal size."""
    rng, names = np.random.default_rng(SEED), np.unique(units)
    shares = np.array([right[units == name].mean() for name in names])
    sizes = np.array([(units == name).sum() for name in names])
    drawn = rng.integers(len(names), size=(RESAMPLES, len(names)))
    means = (shares * sizes)[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _offsets(parts: list[Followed]) -> Indices:
    lengths = [len(part.targets) for part in parts]
    return np.cumsum([0, *lengths[:-1]])


@contextmanager
def _untracked(_name: str, _settings: Train) -> Iterator[trainer.Report]:
    yield lambda *_: None
