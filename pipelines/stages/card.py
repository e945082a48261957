"""Write the card of the model that was trained, before any registry has seen it; `register` adds what the gate says.

Beside the card, `card/` holds its pictures: those of `evaluate`, and `examples.png`, cells that were called right and
wrong, with what the network looked at.
"""

import logging
import shutil
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from fatescope.command import AuditFile, CellsFolder, MetricsFile, ModelsFolder, OutFolder, ParamsFile, TaskName, run
from fatescope.config import load
from fatescope.data import dataset
from fatescope.data.dataset import CellDataset
from fatescope.inference import bundle, cam
from fatescope.inference.bundle import Bundle
from pipelines.reporting import bioimage, model_card

log = logging.getLogger(__name__)

BIOIMAGE = "bioimageio.zip"
EACH = 4
"""Cells of each kind that are shown."""


def choose(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return up to EACH cells called right and EACH called wrong, of all classes by turns, the surest first.

    The surest mistakes teach most about a model.
    """
    columns = [name for name in predictions.columns if name.startswith("p_")]
    table = predictions.assign(
        right=predictions["label"] == predictions["predicted"], confidence=predictions[columns].max(axis=1)
    ).sort_values(["confidence", "cell_id"], ascending=[False, True])
    table["turn"] = table.groupby(["right", "label"]).cumcount()
    return table.sort_values(["right", "turn"], ascending=[False, True], kind="stable").groupby("right").head(EACH)


def draw(model: Bundle, source: CellDataset, chosen: pd.DataFrame) -> Figure:
    """Draw each of the chosen cells beside the activation map of its call."""
    where = pd.Index(source.manifest["cell_id"]).get_indexer(pd.Index(chosen["cell_id"]))
    said = model.predict(source.pixels[where])
    classes = np.array(model.spec.classes)
    kinds = [(right, np.flatnonzero(chosen["right"].to_numpy() == right)) for right in (True, False)]
    kinds = [(right, places) for right, places in kinds if len(places)]
    figure = Figure(figsize=(2.4 * EACH, 1.5 * len(kinds)), layout="constrained")
    grid = figure.subplots(len(kinds), 2 * EACH, squeeze=False)
    for row, (right, places) in zip(grid, kinds, strict=True):
        for axes in row:
            axes.set_axis_off()
        for left, beside, place in zip(row[::2], row[1::2], places, strict=False):
            each, cell = chosen.iloc[place], source.manifest.iloc[where[place]]
            crop = dataset.crop(source.pixels[where[place]], cell["height"], cell["width"])
            left.imshow(crop, cmap="gray")
            call = int(np.flatnonzero(classes == each["predicted"])[0])
            attention = said.activation_map[place, call]
            strongest = float(np.abs(attention).max()) or 1.0
            beside.imshow(crop, cmap="gray")
            beside.imshow(
                attention, cmap="bwr", vmin=-strongest, vmax=strongest, alpha=0.45, interpolation="bilinear",
                extent=cam.extent(crop.shape, model.spec.canvas, model.spec.params["train"], attention.shape),
            )  # fmt: skip
            beside.set(xlim=(-0.5, crop.shape[1] - 0.5), ylim=(crop.shape[0] - 0.5, -0.5))
            label = f"{each['label']}" if right else f"{each['label']}, called {each['predicted']}"
            left.set_title(f"{label}\n{each['confidence']:.0%} sure", fontsize=7, loc="left")
    return figure


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    models: ModelsFolder,
    metrics: MetricsFile,
    audit: AuditFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder of plots that the stage evaluate drew.")],
    target: OutFolder,
) -> None:
    """Write the model card of a task, and its BioImage.IO package."""
    mpl.use("Agg")
    settings, known = load(params), dataset.load(source)
    pictures = target / "card"
    shutil.rmtree(pictures, ignore_errors=True)
    shutil.copytree(plots, pictures)
    model = bundle.load(models / "bundle", settings.train.threads)
    predictions = pd.read_parquet(models / "predictions.parquet")
    chosen = choose(predictions[predictions["split"] == model.spec.split])
    draw(model, known, chosen).savefig(pictures / model_card.EXAMPLES, dpi=130)
    model_card.write(model_card.read_sources(models / "bundle", known, metrics, audit, pictures), target)
    bioimage.package(models / "bundle", (target / model_card.MD).read_text(), target / BIOIMAGE)
    log.info("%s: card written to %s", task, target / model_card.HTML)


if __name__ == "__main__":
    run(main)
