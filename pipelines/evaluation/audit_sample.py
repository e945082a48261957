"""The cells that the audit measures, described at both stages of preprocessing."""

from dataclasses import dataclass, field
from itertools import starmap

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from fatescope.config import Audit, Dataset
from fatescope.data import features
from fatescope.data.crops import stacked
from fatescope.data.dataset import CellDataset
from fatescope.data.tracks import Tracks
from fatescope.errors import DataError
from fatescope.networks.preprocessing import common_level, common_unit, normalise
from pipelines.evaluation.audit_report import STAGES, Stage
from pipelines.evaluation.confounding import Floats, Texts
from pipelines.evaluation.crop_descriptions import describe_crops
from pipelines.evaluation.intervals import Units, make_units
from pipelines.evaluation.workers import StarMap

MIN_CELLS = 3
"""With fewer cells of a class, a model cannot be fitted on some and tested on others."""
BATCH = 256
"""Cells that are described at a time."""
PARTS = 4
"""Of a batch, so that no core waits for long."""


@dataclass(frozen=True)
class AuditSample:
    """N cells with what the models of the audit predict from, and the units of their intervals."""

    labels: Texts
    groups: Texts
    grouped: npt.NDArray[np.bool_]
    """(N,) whether the class of a cell has enough groups for folds by group."""
    units: Units
    """What the jackknife leaves out in turn."""
    descriptions: dict[Stage, dict[str, Floats]]
    """Stage → name in `confounding.DESCRIPTIONS` or `instrument.DESCRIPTIONS`, with the channel behind it for others
    than the first → (N, F) features of the acquisition."""
    cell_features: Floats
    """(N, len(features.CELL)) features of the cell itself, in each channel."""
    by_channel: dict[str, Floats] = field(default_factory=dict)
    """Channel → those of them that it shows; empty where the model sees one."""

    @property
    def classes(self) -> Texts:
        """Return the K class names in sorted order."""
        return np.unique(self.labels)

    def schemes(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Return scheme → (N,) the cells that folds under it can hold."""
        schemes = {"random": np.ones(len(self.labels), bool)}
        if len(np.unique(self.labels[self.grouped])) > 1:
            schemes["grouped"] = self.grouped
        return schemes

    def resampled(self, name: str) -> str:
        """Return what intervals leave out in turn of the cells of a class: `groups` or `cells`."""
        return "groups" if self.grouped[self.labels == name].all() else "cells"


def choose_cells(
    manifest: pd.DataFrame, dataset: Dataset, params: Audit, tracks: Tracks | None = None
) -> npt.NDArray[np.int64]:
    """Return the rows of at most `params.max_cells` cells, up to an equal share of each class of any task.

    Of a cell with several images, by `tracks`, one is taken at random, so that no cell is in two folds.
    Raises DataError where fewer than two classes have MIN_CELLS cells.
    """
    named = {name for classes in dataset.tasks.values() for name in classes}
    counts = manifest["label"].value_counts()
    classes = sorted(name for name in named if counts.get(name, 0) >= MIN_CELLS)
    if len(classes) < 2:
        raise DataError(
            f"audit: two classes of at least {MIN_CELLS} cells are needed, but the cells by class are "
            f"{counts.to_dict()}; add cells, or change dataset.tasks"
        )
    rng, share = np.random.default_rng(params.seed), params.max_cells // len(classes)
    alone = np.ones(len(manifest), bool)
    if tracks is not None:
        mixed = rng.permutation(len(manifest))
        alone[:] = False
        alone[mixed[np.unique(tracks.keys[mixed], return_index=True)[1]]] = True
    by_class = [np.flatnonzero((manifest["label"] == name) & alone) for name in classes]
    return np.sort(np.concatenate([rng.choice(rows, min(share, len(rows)), replace=False) for rows in by_class]))


def describe_cells(
    source: CellDataset,
    rows: npt.NDArray[np.int64],
    confounded: dict[str, str],
    normalisation: str,
    work: StarMap = starmap,
) -> AuditSample:
    """Return the sample of the cells in `rows`; classes in `confounded` have too few groups for folds by group."""
    manifest = source.take(rows, ["label", "group", "height", "width"])
    labels, groups = manifest["label"].to_numpy(str), manifest["group"].to_numpy(str)
    grouped = ~np.isin(labels, list(confounded))
    # Prefixed, because a group may have the number of a cell as its name.
    units = np.where(grouped, np.char.add("group ", groups), np.char.add("cell ", np.arange(len(rows)).astype(str)))
    descriptions, cell_features = _describe(source, rows, manifest[["height", "width"]].to_numpy(), normalisation, work)
    by_channel = dict(zip(source.channels, cell_features, strict=True)) if len(cell_features) > 1 else {}
    of_all = np.concatenate(cell_features, axis=1)
    return AuditSample(labels, groups, grouped, make_units(units, labels), descriptions, of_all, by_channel)


def _describe(
    source: CellDataset,
    rows: npt.NDArray[np.int64],
    crop_sizes: npt.NDArray[np.int64],
    normalisation: str,
    work: StarMap,
) -> tuple[dict[Stage, dict[str, Floats]], list[Floats]]:
    """Return the descriptions of all channels, and the features of the cell in each.

    `crop_sizes` (n, 2) are the heights and widths of the cells in `rows`, px.
    """
    vectors: dict[Stage, dict[str, list[Floats]]] = {stage: {} for stage in STAGES}
    level, unit = common_level(source.pixels, rows), common_unit(source.pixels, rows)
    cell_features: list[list[Floats]] = [[] for _ in source.kinds]
    for start in tqdm(range(0, len(rows), BATCH), desc="audit: describe cells", unit="batch", delay=1):
        batch = rows[start : start + BATCH]
        pixels, sizes = stacked(source.pixels[batch]), crop_sizes[start : start + BATCH]
        for place, of_channel in enumerate(cell_features):
            of_channel.append(features.cell(pixels[:, place]))
        images = torch.from_numpy(pixels.astype(np.float32))
        normalised = normalise(images, normalisation, level, source.kinds, unit).numpy()
        parts = np.array_split(np.arange(len(batch)), min(PARTS, len(batch)))
        jobs = [
            (canvases[part], sizes[part].tolist(), list(source.channels))
            for canvases in (images.numpy(), normalised)
            for part in parts
        ]
        described = list(work(describe_crops, jobs))
        for number, stage in enumerate(STAGES):
            for by_name in described[number * len(parts) : (number + 1) * len(parts)]:
                for name, of_part in by_name.items():
                    vectors[stage].setdefault(name, []).append(of_part)
    joined = {stage: {name: np.concatenate(v) for name, v in by_name.items()} for stage, by_name in vectors.items()}
    return joined, [np.concatenate(of_channel) for of_channel in cell_features]
