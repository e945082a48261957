"""Draw gates around good single cells, and say of every cell why it is outside.

Writes `quality.parquet` (`fatescope.data.quality_table`), `quality.json` (`pipelines.evaluation.quality_report`), and
the plots `area_aspect_ratio.png` and `gradient_rms.png`. What becomes of the cells outside is up to the stage split,
which leaves them out where `quality.exclude` says so.

Cells are read, measured and written a part at a time. Gates are learned from all cells, or from SAMPLE of them that are
drawn at random where there are more, as `quality.json` says: limits are medians and half spreads, which so many cells
settle.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import typer
from tqdm import tqdm

from fatescope import plural
from fatescope.command import CellsFolder, OutFile, ParamsFile, PlotsFolder, run
from fatescope.config import Quality, load
from fatescope.data import cell_quality, dataset, quality_gate, table_parts
from fatescope.data.cell_quality import QUALITY
from fatescope.data.crops import Pixels
from fatescope.data.dataset import CellDataset, TableWriter
from fatescope.data.quality_gate import QualityGate
from fatescope.data.quality_table import CellQuality, QualityWriter
from fatescope.lineage import WRITES
from pipelines.evaluation.quality_plots import QualityDrawing
from pipelines.evaluation.quality_report import GateSample, QualityReport, QualityTally

log = logging.getLogger(__name__)

CHUNK = 512
"""Cells that are measured at a time."""
SAMPLE = 200_000
"""Cells from which gates are learned."""
SEED = 0
Floats = npt.NDArray[np.float32]


def quality(source: CellDataset, params: Quality, target: Path, plots: Path | None = None) -> QualityReport:
    """Measure all cells, learn the gates from them, and write the table `target`; limits that `params` has stay.

    `plots` are drawn into a folder, where one is given.
    """
    with tempfile.TemporaryDirectory(prefix="quality-", dir=target.parent) as folder:
        measured = Path(folder) / "features.parquet"
        with TableWriter(measured) as writer:
            for features in measure(source):
                writer.append(dict(zip(QUALITY, features.T, strict=True)))
        gate = learn(source, measured, params)
        drawing, tally = QualityDrawing(gate, *_extent(measured)) if plots else None, QualityTally()
        with QualityWriter(target, gate) as writer:
            for cells, features in _enumerate_measured(source, measured):
                rows = CellQuality.of(cells["cell_id"], features, gate).table
                writer.append(rows)
                tally.add(rows, cells)
                if drawing:
                    drawing.add(rows)
    if drawing and plots:
        drawing.write(plots)
    return tally.report(gate, sample_of(len(source)), excluded=params.exclude)


def sample_of(cells: int) -> GateSample:
    """Return from how many of so many cells gates are learned."""
    return GateSample(cells=min(cells, SAMPLE), of=cells, seed=SEED if cells > SAMPLE else None)


def measure(source: CellDataset) -> Iterator[Floats]:
    """Yield (n, len(QUALITY)) features of all cells in order, CHUNK at most at a time."""
    sides, start = ["height", "width", "bit_depth"], 0
    with tqdm(total=len(source), desc="quality", unit="cell", delay=1) as bar:
        for part in source.table.read(sides):
            for first in range(0, len(part), CHUNK):
                height, width, bit_depth = part[sides].iloc[first : first + CHUNK].to_numpy(np.int64).T
                pixels = source.pixels[start + first : start + first + len(height)]
                yield cell_quality.measure(crops(pixels, height, width), bit_depth)
                bar.update(len(height))
            start += len(part)


def crops(pixels: Pixels, height: npt.NDArray[np.int64], width: npt.NDArray[np.int64]) -> list[Pixels]:
    """Return the brightfield crops of (n, H, W) or (n, C, H, W) pixels, as the instrument cut them."""
    first = pixels if pixels.ndim == 3 else pixels[:, 0]
    sides = zip(height.tolist(), width.tolist(), strict=True)
    return [dataset.crop(cell, *size) for cell, size in zip(first, sides, strict=True)]


def learn(source: CellDataset, measured: Path, params: Quality) -> QualityGate:
    """Return the gates of the cells, whose features are in the file `measured`."""
    rows = table_parts.sample_rows(len(source), SAMPLE, SEED)
    features, groups, start = list[Floats](), list[npt.NDArray[np.str_]](), 0
    for cells, values in _enumerate_measured(source, measured, ["group"]):
        first, last = np.searchsorted(rows, [start, start + len(cells)])
        features.append(values[rows[first:last] - start])
        groups.append(cells["group"].to_numpy(str)[rows[first:last] - start])
        start += len(cells)
    learned = quality_gate.learn(np.concatenate(features), np.concatenate(groups), params.loss)
    return learned.model_copy(update={str(name): value for name, value in params.limits.items()})


def _extent(measured: Path) -> tuple[int, tuple[float, float]]:
    """Return how many cells have an area, and the ends of the range of their gradient RMS."""
    objects, low, high = 0, np.inf, -np.inf
    for batch in pq.ParquetFile(measured).iter_batches(table_parts.PART, columns=["area", "gradient_rms"]):
        focus = batch["gradient_rms"].to_numpy()
        objects += int((batch["area"].to_numpy() > 0).sum())
        low, high = min(low, float(focus.min())), max(high, float(focus.max()))
    return objects, (low, high)


def _enumerate_measured(
    source: CellDataset, measured: Path, columns: list[str] | None = None
) -> Iterator[tuple[pd.DataFrame, Floats]]:
    """Yield `columns` of the manifest, by default those of the table and the report, with the (n, F) features."""
    cells = source.table.read(columns or ["cell_id", "label", "group"])
    features = pq.ParquetFile(measured).iter_batches(table_parts.PART, columns=list(QUALITY))
    for part, values in zip(cells, features, strict=True):
        yield part, np.stack([values[name].to_numpy() for name in QUALITY], axis=1)


def describe(found: QualityReport) -> str:
    """Return how many cells are outside, in words."""
    reasons = ", ".join(f"{name} {count:,}" for name, count in found.total.reasons.items())
    left = "they belong to no split" if found.excluded else "they stay in the splits, see quality.exclude"
    cells, are = plural.count(found.total.cells, "cell"), plural.agree(found.total.outside, "is", "are")
    return f"{found.total.outside:,} of {cells} {are} outside the gates ({reasons}); {left}"


def main(
    params: ParamsFile,
    source: CellsFolder,
    target: OutFile,
    report_file: Annotated[Path, typer.Option("--report", help="File to write the counts into."), WRITES],
    plots: PlotsFolder,
) -> None:
    """Draw gates around good single cells, and count the cells outside by class, group and reason."""
    settings = load(params)
    target.parent.mkdir(parents=True, exist_ok=True)
    found = quality(dataset.load(source, []), settings.quality, target, plots)
    found.write(report_file)
    log.info("%s", describe(found))
    for name, counts in found.groups.items():
        if counts.share > 0.5:
            most = plural.agree(counts.cells, "the only cell", f"{counts.outside} of the {counts.cells} cells")
            are = plural.agree(counts.outside, "is", "are")
            log.warning("%s of group %s %s outside the gates", most, name, are)


if __name__ == "__main__":
    run(main)
