"""Teach a backbone on cells without labels, for `train.weights: pretrained`.

One backbone for all tasks, that of the section `train`, on images prepared as for training. It learns from all cells of
the store that no scheme tests on, whatever their class, and from images that people let the service keep with their
corrections. Where `pretrain.method` is `none` there is nothing to do but a report that says so.

Writes `backbone.safetensors` and `report.json` (`pipelines.pretraining.result`).
"""

import logging
import time
from pathlib import Path
from shutil import rmtree
from typing import Annotated

import typer

from fatescope import plural
from fatescope.command import CellsFolder, OutFolder, ParamsFile, SplitsFile, run
from fatescope.config import Params, load
from fatescope.data import dataset, splits, tracks
from pipelines.pretraining.cells import joined, read_feedback, tested_groups, untested
from pipelines.pretraining.result import BACKBONE, REPORT, PretrainingReport

log = logging.getLogger(__name__)


def pretrain(params: Params, source: Path, parts: Path, feedback: Path, target: Path) -> PretrainingReport:
    """Teach the backbone of `params` and write its weights into the folder `target`."""
    # Only here: PyTorch takes seconds to import, for which most runs of this stage have no use.
    from pipelines.pretraining import loop  # noqa: PLC0415

    started = time.monotonic()
    cells = dataset.load(source, ["label", "group"])
    divided, followed = splits.load(parts), tracks.read(cells, params.dataset)
    rows = untested(divided, cells, followed)
    more = read_feedback(feedback, cells, rows, params, tested_groups(divided, cells), followed)
    images = plural.count(len(more.pixels), "feedback image")
    log.info("pretraining on %s and %s", plural.count(len(rows), "cell"), images)
    with joined(cells, rows, more.pixels) as (pixels, learned):
        result = loop.pretrain(
            *(pixels, learned, params.pretrain, params.train, cells.kinds), seconds=60 * params.pretrain.minutes
        )
    loop.save(result.network, target / BACKBONE)
    return PretrainingReport(
        method=params.pretrain.method,
        backbone=params.train.backbone,
        stem=params.train.stem,
        input_size=params.train.input_size,
        normalisation=params.train.normalisation,
        cells=len(rows),
        tested=len(cells) - len(rows),
        feedback=len(more.pixels),
        feedback_tested=more.tested,
        feedback_known=more.known,
        feedback_refused=more.refused,
        epochs=len(result.losses),
        losses=result.losses,
        seconds=round(time.monotonic() - started, 1),
        shortened=result.shortened,
    )


def main(
    params: ParamsFile,
    source: CellsFolder,
    parts: SplitsFile,
    feedback: Annotated[
        Path, typer.Option("--feedback", help="Folder of the service's corrections, with the images that it may keep.")
    ],
    target: OutFolder,
) -> None:
    """Teach a backbone on cells without labels."""
    parameters = load(params)
    rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if parameters.pretrain.method == "none":
        report = PretrainingReport(method="none")
    else:
        report = pretrain(parameters, source, parts, feedback, target)
    report.write(target / REPORT)


if __name__ == "__main__":
    run(main)
