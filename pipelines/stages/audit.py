"""Ask of the data what no model should be told: how well acquisition alone predicts the class.

`audit.json`:
- `acquisition`: stage (`raw`, `normalised`) → description → split → model → balanced accuracy with interval;
- `pairs`: one entry a class pair: `verdict` on the raw pixels, `verdict_normalised` on what is left for the network to
  see, `split` it was judged on, `confounded`, and under `raw` and `normalised` the strongest evidence of each;
- `baseline`: split → balanced accuracy of simple figures of the cell, which a CNN must beat;
- `tasks`: task → split → `acquisition` and `cell_figures`: balanced accuracy of the best description without the cell,
  and of simple figures of it, where only the classes of the task are in question;
- `groups`: class → how well its groups can be told from each other, by surroundings and by cell (batch signal);
- `confounding`: cells by class and group, and Cramér's V between the class and each named fact of the path.
Intervals resample acquisition groups where a class has three or more, else cells, and say which.
"""

import json
import logging
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import typer
from tqdm import tqdm

from fatescope.command import CellsFolder, OutFile, ParamsFile, SplitsFile, run
from fatescope.config import Audit, Dataset, load
from fatescope.data import features, splits
from fatescope.data.dataset import CellDataset, crop
from fatescope.data.dataset import load as load_cells
from fatescope.errors import DataError
from fatescope.networks.network import common_level, normalise
from pipelines.evaluation import audit_plots, bootstrap, confounding
from pipelines.evaluation.bootstrap import Weights
from pipelines.evaluation.confounding import DESCRIPTIONS, MODELS, Floats, Texts

log = logging.getLogger(__name__)

STAGES = ("raw", "normalised")
VERDICTS = ("clean", "suspect", "shortcut")
MIN_CELLS = 3
"""With fewer cells of a class, nothing can be learned from one part and tried on another."""


@dataclass(frozen=True)
class Sample:
    """The cells that are asked, and how their folds and intervals are drawn."""

    labels: Texts
    groups: Texts
    grouped: npt.NDArray[np.bool_]
    """Whether the class of a cell has groups enough for a grouped split."""
    weights: Weights
    """(1 + R, N) of the bootstrap."""
    described: dict[str, dict[str, Floats]]
    """Stage → description → (N, F)."""
    figures: Floats
    """(N, len(features.CELL))."""


def audit(
    source: CellDataset, confounded: dict[str, str], dataset: Dataset, normalisation: str, params: Audit
) -> dict[str, Any]:
    """Answer the four questions for the classes of any task; see the module for what is returned.

    Raises DataError where fewer than two classes have MIN_CELLS cells.
    """
    rows = _choose(source.manifest, dataset, params)
    sample = _look(source, rows, confounded, normalisation, params)
    predictions = _predict(sample, params)
    figures = {split: _fit(sample, sample.figures, split, "boosting", params) for split in _schemes(sample)}
    return {
        "cells": len(rows),
        "thresholds": {"suspect": params.suspect_auc, "shortcut": params.shortcut_auc},
        "resampled": {name: _unit(sample, name) for name in np.unique(sample.labels).tolist()},
        "acquisition": _acquisition(sample, predictions),
        "pairs": [
            _judge(sample, predictions, pair, params) for pair in combinations(np.unique(sample.labels).tolist(), 2)
        ],
        "baseline": {split: _score(sample, found) for split, found in figures.items()},
        "tasks": {
            task: narrowed
            for task, classes in dataset.tasks.items()
            if (narrowed := _narrow(sample, predictions, figures, classes))
        },
        "groups": _tell_groups(sample, params),
        "confounding": _confounding(source.manifest, dataset),
    }


def _choose(manifest: pd.DataFrame, dataset: Dataset, params: Audit) -> npt.NDArray[np.int64]:
    """Return the rows of at most `params.max_cells` cells, as many of each class as there are up to an equal share."""
    asked = {name for classes in dataset.tasks.values() for name in classes}
    counts = manifest["label"].value_counts()
    chosen = sorted(name for name in asked if counts.get(name, 0) >= MIN_CELLS)
    if len(chosen) < 2:
        raise DataError(f"audit: two classes of {MIN_CELLS} cells are needed, but there are {counts.to_dict()}")
    rng, share = np.random.default_rng(params.seed), params.max_cells // len(chosen)
    rows = [np.flatnonzero(manifest["label"] == name) for name in chosen]
    return np.sort(np.concatenate([rng.choice(each, min(share, len(each)), replace=False) for each in rows]))


def _look(
    source: CellDataset, rows: npt.NDArray[np.int64], confounded: dict[str, str], normalisation: str, params: Audit
) -> Sample:
    known = source.manifest.iloc[rows]
    labels, groups = known["label"].to_numpy(str), known["group"].to_numpy(str)
    described: dict[str, dict[str, list[Floats]]] = {stage: {name: [] for name in DESCRIPTIONS} for stage in STAGES}
    level = torch.tensor(common_level(source.pixels, rows))
    figures = []
    for start in tqdm(range(0, len(rows), 256), desc="audit: look", unit="batch", delay=1):
        block = source.pixels[rows[start : start + 256]]
        figures.append(features.cell(block))
        images = torch.from_numpy(block[:, None].astype(np.float32))
        normalised = normalise(images, normalisation, level)[:, 0].numpy()
        sizes = known[["height", "width"]].to_numpy()[start : start + 256]
        for stage, shown in (("raw", block.astype(np.float32)), ("normalised", normalised)):
            for image, (height, width) in zip(shown, sizes, strict=True):
                for name, vector in confounding.describe(crop(image, height, width)).items():
                    described[stage][name].append(vector)
    grouped = ~np.isin(labels, list(confounded))
    # Named apart, because a group may be called like a number too.
    units = np.where(grouped, np.char.add("group ", groups), np.char.add("cell ", np.arange(len(rows)).astype(str)))
    return Sample(
        labels,
        groups,
        grouped,
        bootstrap.resample(units, labels, params.repeats, params.seed),
        {stage: {name: np.stack(v) for name, v in each.items()} for stage, each in described.items()},
        np.concatenate(figures),
    )


def _unit(sample: Sample, name: str) -> str:
    return "groups" if sample.grouped[sample.labels == name].all() else "cells"


def _schemes(sample: Sample) -> dict[str, npt.NDArray[np.bool_]]:
    """Return split → the cells it is possible for."""
    schemes = {"random": np.ones(len(sample.labels), bool)}
    if len(np.unique(sample.labels[sample.grouped])) > 1:
        schemes["grouped"] = sample.grouped
    return schemes


def _folds(sample: Sample, chosen: npt.NDArray[np.bool_], split: str, params: Audit) -> int:
    """Return as many folds as the rarest class has cells or groups, up to `params.folds`."""
    units = sample.groups if split == "grouped" else np.arange(len(sample.labels)).astype(str)
    rarest = min(len(np.unique(units[chosen & (sample.labels == name)])) for name in np.unique(sample.labels[chosen]))
    return min(params.folds, rarest)


Predictions = dict[tuple[str, str, str, str], Floats]
"""(stage, description, split, model) → (N, K) probabilities, NaN for cells that the split is not possible for."""


def _predict(sample: Sample, params: Audit) -> Predictions:
    jobs = [
        (stage, name, split, model)
        for stage in STAGES
        for name in DESCRIPTIONS
        # Normalisation does not change the size of a crop.
        if not (stage == "normalised" and name == "crop")
        for split in _schemes(sample)
        for model in MODELS
    ]
    predictions = {}
    for job in tqdm(jobs, desc="audit: acquisition", unit="model", delay=1):
        stage, name, split, model = job
        predictions[job] = _fit(sample, sample.described[stage][name], split, model, params)
    return predictions


def _fit(sample: Sample, figures: Floats, split: str, model: str, params: Audit) -> Floats:
    chosen = _schemes(sample)[split]
    classes = np.unique(sample.labels)
    probabilities = np.full((len(chosen), len(classes)), np.nan)
    columns = np.flatnonzero(np.isin(classes, sample.labels[chosen]))
    groups = sample.groups[chosen] if split == "grouped" else None
    folds = _folds(sample, chosen, split, params)
    found = confounding.predict(figures[chosen], sample.labels[chosen], groups, MODELS[model], folds, params.seed)
    probabilities[np.ix_(chosen, columns)] = found
    return probabilities


def _score(sample: Sample, probabilities: Floats) -> dict[str, Any]:
    """Return the balanced accuracy with interval, beside what guessing would reach."""
    chosen = ~np.isnan(probabilities).all(1)
    truth = np.searchsorted(np.unique(sample.labels), sample.labels[chosen])
    called = np.nan_to_num(probabilities[chosen], nan=-1).argmax(1)
    values = bootstrap.balanced_accuracy(called, truth, sample.weights[:, chosen])
    return {**asdict(bootstrap.interval(values)), "chance": 1 / len(np.unique(truth))}


def _acquisition(sample: Sample, predictions: Predictions) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for (stage, name, split, model), probabilities in predictions.items():
        place = answer.setdefault(stage, {}).setdefault(name, {}).setdefault(split, {})
        place[model] = _score(sample, probabilities)
    return answer


def _judge(sample: Sample, predictions: Predictions, pair: tuple[str, str], params: Audit) -> dict[str, Any]:
    """Judge one pair by the lower end of the strongest interval: chance alone should not accuse anyone."""
    rows = np.isin(sample.labels, pair)
    confounded = not sample.grouped[rows].all()
    split = "random" if confounded else "grouped"
    columns = [int(np.searchsorted(np.unique(sample.labels), name)) for name in pair]
    verdict: dict[str, Any] = {"classes": list(pair), "split": split, "confounded": confounded}
    for stage in STAGES:
        evidence = []
        for (its_stage, name, its_split, model), probabilities in predictions.items():
            if (its_stage, its_split) == (stage, split) and name != "intensity":
                one, other = probabilities[rows][:, columns].T
                scores = one / np.maximum(one + other, 1e-12)
                areas = bootstrap.auc(scores, sample.labels[rows] == pair[0], sample.weights[:, rows])
                found = asdict(bootstrap.interval(areas))
                evidence.append(
                    {"description": name, "model": model, **found, "verdict": _verdict(name, found, params)}
                )
        verdict[stage] = max(evidence, key=lambda each: (VERDICTS.index(each["verdict"]), each["low"]))
    # Normalisation divides by the contrast of the cell, which puts a trace of the cell into its surroundings; but it
    # cannot add anything about acquisition that the raw pixels did not hold.
    after = min(verdict["raw"]["verdict"], verdict["normalised"]["verdict"], key=VERDICTS.index)
    return verdict | {"verdict": verdict["raw"]["verdict"], "verdict_normalised": after}


def _verdict(description: str, found: dict[str, float], params: Audit) -> str:
    if found["low"] >= params.shortcut_auc and description in confounding.CELL_FREE:
        return "shortcut"
    return "suspect" if found["low"] >= params.suspect_auc else "clean"


def _narrow(
    sample: Sample, predictions: Predictions, figures: dict[str, Floats], classes: list[str]
) -> dict[str, dict[str, Any]]:
    """Return what is told apart when only `classes` are in question, by the models that know all classes."""
    known = np.unique(sample.labels)
    if not set(classes) <= set(known):
        return {}
    others, rows = ~np.isin(known, classes), np.isin(sample.labels, classes)

    def score(probabilities: Floats) -> dict[str, Any]:
        kept = probabilities.copy()
        kept[:, others] = -1
        # NaN marks cells that have no place in this split, or in this task.
        kept[np.isnan(probabilities).all(1) | ~rows] = np.nan
        return _score(sample, kept)

    answer = {}
    for split, chosen in _schemes(sample).items():
        if set(sample.labels[chosen]) >= set(classes):
            alone = [
                score(p)
                for (stage, name, its, _), p in predictions.items()
                # The intensity of the whole crop holds a trace of the cell.
                if (stage, its) == ("raw", split) and name != "intensity"
            ]
            best = max(alone, key=lambda found: float(found["value"]))
            answer[split] = {"acquisition": best, "cell_figures": score(figures[split])}
    return answer


def _tell_groups(sample: Sample, params: Audit) -> dict[str, Any]:
    """Tell the groups of one class from each other, at most `params.max_groups` of them, the largest."""
    answer: dict[str, Any] = {}
    for name in np.unique(sample.labels).tolist():
        rows = np.flatnonzero(sample.labels == name)
        names, counts = np.unique(sample.groups[rows], return_counts=True)
        largest = names[np.argsort(-counts, kind="stable")][: params.max_groups]
        largest = largest[[counts[names == each][0] >= params.folds for each in largest]]
        if len(largest) < 2:
            continue
        rows = rows[np.isin(sample.groups[rows], largest)]
        weights = bootstrap.resample(rows.astype(str), sample.groups[rows], params.repeats, params.seed)
        truth, answer[name] = np.searchsorted(np.sort(largest), sample.groups[rows]), {"groups": len(largest)}
        for what, figures in (("border", sample.described["raw"]["border"]), ("cell", sample.figures)):
            found = confounding.predict(
                figures[rows], sample.groups[rows], None, MODELS["boosting"], params.folds, params.seed
            )
            values = bootstrap.balanced_accuracy(found.argmax(1), truth, weights)
            answer[name][what] = {**asdict(bootstrap.interval(values)), "chance": 1 / len(largest)}
    return answer


def _confounding(manifest: pd.DataFrame, dataset: Dataset) -> dict[str, Any]:
    facts = [name for name in (*dataset.group, "group") if name != dataset.label]
    return {
        "cramers_v": {name: cramers_v(pd.crosstab(manifest["label"], manifest[name]).to_numpy()) for name in facts},
        "cells": {
            str(name): each["group"].value_counts().sort_index().to_dict() for name, each in manifest.groupby("label")
        },
    }


def cramers_v(counts: npt.NDArray[np.int64]) -> float:
    """Return Cramér's V of a table of counts, corrected for bias (Bergsma 2013): 0 unrelated, 1 the same thing."""
    total, (rows, columns) = counts.sum(), counts.shape
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / total
    phi2 = ((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum() / total
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (total - 1))
    smaller = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(corrected / smaller))) if smaller > 0 else 0.0


def main(
    params: ParamsFile,
    source: CellsFolder,
    parts: SplitsFile,
    target: OutFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder to draw plots into.")],
) -> None:
    """Measure how well acquisition alone predicts the class, and name the shortcuts."""
    settings = load(params)
    torch.set_num_threads(settings.train.threads)
    confounded = splits.load(parts).confounded
    report = audit(load_cells(source), confounded, settings.dataset, settings.train.normalisation, settings.audit)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    audit_plots.draw(report, plots)
    for pair in report["pairs"]:
        best = pair["raw"]
        log.info(
            "%s / %s: %s%s, after normalisation %s (%s, %s: AUC %.2f, %.2f to %.2f)",
            *pair["classes"],
            pair["verdict"],
            " and confounded" if pair["confounded"] else "",
            pair["verdict_normalised"],
            best["description"],
            best["model"],
            best["value"],
            best["low"],
            best["high"],
        )


if __name__ == "__main__":
    run(main)
