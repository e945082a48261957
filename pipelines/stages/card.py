"""Write the model card, before the model is registered; the stage `register` adds the verdict of the gate.

Beside the card, `card/` has its images: the plots of the stage `evaluate`, and `examples.png` with cells that were
classified correctly and incorrectly, and their class activation maps; and what the stage `quality` reports and plots.
"""

import logging
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fatescope.command import AuditFile, CellsFolder, MetricsFile, ModelsFolder, OutFolder, ParamsFile, TaskName, run
from fatescope.config import load
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from fatescope.data.table_parts import FileParts
from fatescope.inference import bundle, cam
from fatescope.inference.bundle import Bundle
from pipelines.evaluation import drawing
from pipelines.evaluation.language_report import LANGUAGE, LanguageReport
from pipelines.evaluation.metrics_report import Metrics
from pipelines.reporting import bioimage, model_card, running_cost
from pipelines.reporting.montage import beside_each_other
from pipelines.settings import PipelineSettings

log = logging.getLogger(__name__)

BIOIMAGE = "bioimageio.zip"
SHOWN = 4
"""Correctly classified cells that are shown, and incorrectly classified ones."""


def choose_examples(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return up to SHOWN correct and SHOWN incorrect predictions, classes in turn, the most confident first.

    Confident mistakes teach most about a model.
    """
    table = _rank(predictions)
    table["turn"] = table.groupby(["right", "label"]).cumcount()
    return table.sort_values(["right", "turn"], ascending=[False, True], kind="stable").groupby("right").head(SHOWN)


def read_most_confident(path: Path, scheme: str) -> pd.DataFrame:
    """Return the rows of `predictions.parquet` of which examples of a scheme are chosen; reads a part at a time."""
    found: pd.DataFrame = pq.read_schema(path).empty_table().to_pandas()
    for part in FileParts(path).read():
        table = pd.concat([found, part[part["split"] == scheme]], ignore_index=True)
        found = table.loc[_rank(table).groupby(["right", "label"]).head(SHOWN).index]
    return found


def _rank(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return predictions, the most confident first, with `right` and `confidence`."""
    columns = [name for name in predictions.columns if name.startswith("p_")]
    ranked: pd.DataFrame = predictions.assign(
        right=predictions["label"] == predictions["predicted"], confidence=predictions[columns].max(axis=1)
    ).sort_values(["confidence", "cell_id"], ascending=[False, True])
    return ranked


def find_cells(source: CellDataset, cell_ids: list[str]) -> npt.NDArray[np.int64]:
    """Return the (n,) rows of the cells with these ids; raises KeyError where there is none."""
    rows, start = dict[str, int](), 0
    for part in source.table.read(["cell_id"]):
        places = np.flatnonzero(part["cell_id"].isin(cell_ids))
        rows |= zip(part["cell_id"].iloc[places], (start + places).tolist(), strict=True)
        start += len(part)
    return np.array([rows[name] for name in cell_ids], np.int64)


def draw_examples(model: Bundle, source: CellDataset, examples: pd.DataFrame) -> Figure:
    """Draw each example beside the class activation map of its predicted class, correct ones in the first row."""
    cells = find_cells(source, examples["cell_id"].tolist())
    sizes = source.take(cells, ["height", "width"])
    maps = model.predict(source.pixels[cells]).activation_map
    rows = [places for right in (True, False) if len(places := np.flatnonzero(examples["right"] == right))]
    figure = Figure(figsize=(2.4 * SHOWN, 1.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 2 * SHOWN, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, places in zip(grid, rows, strict=True):
        for left, right, place in zip(row[::2], row[1::2], places, strict=False):
            example = examples.iloc[place]
            predicted = model.spec.classes.index(example["predicted"])
            cell = sizes.iloc[place]
            crop = dataset.crop(source.pixels[cells[place]], cell["height"], cell["width"])
            left.imshow(beside_each_other(crop), cmap="gray")
            left.set_title(_title(example), fontsize=7, loc="left")
            _draw_map(right, crop if crop.ndim == 2 else crop[0], maps[place, predicted], model)
    return figure


def _title(example: pd.Series) -> str:
    label = example["label"] if example["right"] else f"{example['label']}, predicted {example['predicted']}"
    return f"{label}\nconfidence {example['confidence']:.0%}"


def _draw_map(axes: Axes, crop: npt.NDArray[np.uint16], activation: npt.NDArray[np.float32], model: Bundle) -> None:
    """Draw the activation map of one class over its crop."""
    strongest = float(np.abs(activation).max()) or 1.0
    axes.imshow(crop, cmap="gray")
    axes.imshow(
        activation, cmap="bwr", vmin=-strongest, vmax=strongest, alpha=0.45, interpolation="bilinear",
        extent=cam.extent(crop.shape, model.spec.canvas, model.spec.params["train"], activation.shape),
    )  # fmt: skip
    axes.set(xlim=(-0.5, crop.shape[1] - 0.5), ylim=(crop.shape[0] - 0.5, -0.5))


def copy_language(report: Path, metrics: Path, folder: Path, pictures: Path) -> None:
    """Copy the report on a vision-language model to the `pictures`, if there is one beside this very model."""
    scheme = bundle.read_spec(folder).split
    if LanguageReport.read_beside(report, scheme, Metrics.read(metrics).schemes[scheme]) is not None:
        shutil.copy(report, pictures / LANGUAGE)


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    models: ModelsFolder,
    metrics: MetricsFile,
    audit: AuditFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder of plots that the stage evaluate drew.")],
    target: OutFolder,
    quality: Annotated[Path | None, typer.Option("--quality", help="Report of the stage quality.")] = None,
    quality_plots: Annotated[Path | None, typer.Option("--quality-plots", help="Folder of its plots.")] = None,
) -> None:
    """Write the model card of a task, and its BioImage.IO package."""
    drawing.prepare()
    settings, cells = load(params), dataset.load(source, model_card.columns(source))
    pictures = target / "card"
    shutil.rmtree(pictures, ignore_errors=True)
    shutil.copytree(plots, pictures)
    if quality is not None and quality_plots is not None:
        shutil.copy(quality, pictures / model_card.QUALITY)
        for plot in model_card.QUALITY_PLOTS:
            shutil.copy(quality_plots / plot, pictures / plot)
    copy_language(target / LANGUAGE, metrics, models / "bundle", pictures)
    model = bundle.load(models / "bundle", settings.train.threads)
    examples = choose_examples(read_most_confident(models / "predictions.parquet", model.spec.split))
    draw_examples(model, cells, examples).savefig(pictures / model_card.EXAMPLES, dpi=130)
    running_cost.measure(model, cells.pixels, settings.train.threads, PipelineSettings()).write(
        pictures / running_cost.FILE
    )
    model_card.write(model_card.read_sources(models / "bundle", cells, metrics, audit, pictures), target)
    bioimage.package(models / "bundle", (target / model_card.MD).read_text(encoding="utf-8"), target / BIOIMAGE)
    log.info("%s: card written to %s", task, target / model_card.HTML)


if __name__ == "__main__":
    run(main)
