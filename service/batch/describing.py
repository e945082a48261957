"""The samples of a batch job as cultures to describe: `fatescope describe OUT`."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from fatescope.errors import DataError
from fatescope.inference import bundle, uncertainty
from fatescope.inference.spec import Spec
from fatescope.language.culture import Culture
from service.batch import job
from service.batch.cultures import sample_of
from service.inference import describing, quality, summary
from service.inference.describing import Images
from service.inference.results import CellCountsDict


def is_job(out: Path) -> bool:
    """Return whether a folder holds a finished job of `fatescope score`."""
    return (out / job.SUMMARY).is_file() and (out / job.MODEL).is_dir()


def cultures(out: Path) -> dict[str, Culture]:
    """Return sample → its figures, of the finished job in `out`; a file without a folder is of the sample ''.

    Raises DataError where no cell was classified.
    """
    spec = bundle.open_spec(out / job.MODEL)
    cells = pd.read_parquet(out / job.CELLS)
    if cells.empty:
        # The folder of a job that only describes is gone by the time anybody could look into it.
        reasons = _refused(out, "reason")
        example = f"; the first of {len(reasons)}: {reasons.iloc[0]}" if len(reasons) else ""
        raise DataError(f"none of the images could be read{example}")
    refused = _refused(out, "file")
    files = pd.unique(pd.concat([cells["file"], refused])).tolist()
    sample = sample_of(files)
    by_sample = {str(name): part for name, part in cells.groupby(cells["file"].map(sample))}
    lost = Counter(refused.map(sample))
    return {name: _culture(part, lost[name], spec) for name, part in by_sample.items()}


def _refused(out: Path, column: str) -> pd.Series:
    """Return a column of the images that were refused."""
    parts = [pd.read_parquet(path, columns=[column])[column] for path in sorted((out / job.REFUSED).glob("*.parquet"))]
    return pd.concat(parts) if parts else pd.Series([], dtype="str")


def _culture(cells: pd.DataFrame, refused: int, spec: Spec) -> Culture:
    verdicts = cells["verdict"].to_numpy(np.str_)
    judged = [None if reasons is None else list(reasons) for reasons in cells["quality"]]
    outside, reasons = quality.count(judged)
    excluded = quality.excludes(spec, requested=None)
    counted = np.array([not (excluded and found) for found in judged], bool)
    probabilities = cells[[f"p_{name}" for name in spec.classes]].to_numpy(np.float64)
    warned = [set() if codes is None else set(codes) for codes in cells.get("warnings", [])]
    counts: CellCountsDict = {
        "cells": len(cells),
        "refused": refused,
        "sure": int((verdicts == uncertainty.SURE).sum()),
        "unsure": int((verdicts == uncertainty.UNSURE).sum()),
        "unlike_training": int((verdicts == uncertainty.UNLIKE).sum()),
        "outside": outside,
        "outside_reasons": reasons,
        "called": {},
        "composition": summary.compose(probabilities[counted], verdicts[counted], spec),
    }
    lossy, unusual = sum("lossy" in codes for codes in warned), sum(map(describing.is_unusual, warned))
    images = Images(lossy=lossy, unusual=unusual, followed=None if spec.tracks else 0)
    return describing.culture_of(counts, spec, images, excluded=excluded)
