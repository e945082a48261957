"""Whether calibration keeps its word on runs that no network has seen, over many simulated sets of cells.

Run with `fatescope bench calibration`; some four minutes a seed on two cores, of which there are 20 unless `--seeds`
says otherwise. For each seed, cells are simulated, ingested and split, and both tasks are trained with the section
`train` as it is, in the way of the stages: scout, folds, refit. What was calibrated is then held against the test
groups. It writes `reports/bench/calibration.json` and the table in `docs/explanation/uncertainty.md`.
"""

import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from scipy.special import softmax
from tqdm import tqdm

from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope import command, config
from fatescope.config import Params
from pipelines.commands import simulate
from pipelines.evaluation.calibration_metrics import class_weights
from pipelines.evaluation.simulated_cultures import simulate_cultures
from pipelines.stages import ingest, split
from pipelines.training import selection, trainer
from pipelines.training.context import TrainingContext, load_context
from pipelines.training.cross_fit import deal_folds
from pipelines.training.prediction import predict

PAGE = Path("docs/explanation/uncertainty.md")
BINS = 10
"""Of equal numbers of cells, of the calibration error."""
SCHEME = "grouped"
HALF_WIDTH = {"binary": 0.08, "multiclass": 0.12}
"""Task → bar of the half-width of a composition's interval."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Held:
    """What the calibration of one model is worth on its test groups."""

    accuracy: float
    coverage: list[float]
    """Of the conformal sets, by class."""
    squared_error: float
    """Of calibration, without what chance adds to it (`debiased_error`)."""
    unlike: float
    """Share of the cells that are called unlike."""
    composition_coverage: float
    half_width: float
    composition_error: float
    """Mean absolute error of a share."""
    fits: int


def debiased_error(targets: npt.NDArray[np.int64], probabilities: Floats, weights: Floats) -> float:
    """Return the mean squared difference of confidence and accuracy over BINS bins, less what chance adds to it.

    Unbiased (Kumar, Liang and Ma 2019), and so negative at times; (n,) `weights` of the cells. The error that is not
    corrected grows with the number of bins, also where calibration is perfect.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    total = 0.0
    for cells in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        share = weights[cells] / weights[cells].sum()
        gap = float((share * (confidence[cells] - right[cells])).sum())
        chance = float((share**2 * (right[cells] - (share * right[cells]).sum()) ** 2).sum())
        effective = 1 / float((share**2).sum())
        total += weights[cells].sum() / weights.sum() * (gap**2 - chance * effective / (effective - 1))
    return total


def prepare(folder: Path, settings: Params, seed: int) -> tuple[Path, Path]:
    """Simulate, ingest and split cells in `folder`; return the paths of the cells and of the splits."""
    path = folder / "params.yaml"
    content = json.loads(settings.model_dump_json(by_alias=True))
    content["simulate"] |= {"seed": seed, "marker_channels": 0}
    path.write_text(json.dumps(content))
    simulate.simulate(config.load(path).simulate, folder / "data")
    ingest.main(path, folder / "data", folder / "cells")
    split.main(path, folder / "cells", folder / "splits.parquet")
    return folder / "cells", folder / "splits.parquet"


def measure(context: TrainingContext) -> Held:
    """Train the model of a task as the stage `train` does, and hold its calibration against the test cells."""
    params, classes = context.params, len(context.classes)
    examples, fits = context.examples(SCHEME), list[str]()

    def open_run(name: str, _: object) -> nullcontext[trainer.Report]:
        fits.append(name)
        return nullcontext(lambda *_: None)

    folds = deal_folds(examples, context.groups, params.calibrate, whole=True)
    [candidate] = selection.train_candidates(examples, folds, classes, [[params.train]], params, open_run)
    refit = selection.refit_candidate(candidate, examples, classes, params.train.seeds[0], params, open_run)
    rows = context.splits.indices(SCHEME, "test", context.classes)
    said, targets, calibration = (
        predict(refit.network, examples.pixels, rows),
        examples.targets[rows],
        candidate.calibration,
    )
    # Its logits are divided by the temperature.
    probabilities = softmax(said.logits, axis=1)
    cultures, _ = simulate_cultures(
        targets,
        probabilities,
        context.groups[rows],
        candidate.prior,
        calibration.composition_error,
        params.evaluate.mixtures,
        params.evaluate.mixture_cells,
        params.evaluate.seed,
    )
    right = probabilities.argmax(1) == targets
    return Held(
        accuracy=float(np.mean([right[targets == k].mean() for k in range(classes)])),
        coverage=[float((probabilities[targets == k, k] >= calibration.conformal[k]).mean()) for k in range(classes)],
        squared_error=debiased_error(targets, probabilities, class_weights(targets, candidate.prior)),
        unlike=float((refit.outliers.score(said.embedding) > calibration.outlier_threshold).mean()),
        composition_coverage=cultures.interval_coverage,
        half_width=cultures.interval_width / 2,
        composition_error=cultures.mean_error,
        fits=len(fits),
    )


def summarise(task: str, classes: list[str], stated: Params, found: list[Held]) -> list[Row]:
    """Return the means over the seeds, as rows of the table."""
    wanted, false_alarm = stated.calibrate.coverage, stated.calibrate.false_alarm
    # The mean before the root: errors of single seeds are unbiased, and negative at times.
    error = max(float(np.mean([each.squared_error for each in found])), 0.0) ** 0.5
    unlike, width = (float(np.mean([getattr(each, name) for each in found])) for name in ("unlike", "half_width"))
    held = [float(np.mean([each.coverage[k] for each in found])) for k in range(len(classes))]
    rows = [
        Row(f"conformal sets hold {name}", {"mean": share, "off": abs(share - wanted)}, {"off": "<= 0.02"})
        for name, share in zip(classes, held, strict=True)
    ]
    number = {"mean": "{:.3f}", "off": "{:.3f}"}
    rows += [
        Row("calibration error", {"mean": error}, {"mean": "<= 0.03"}, number),
        Row("known cells called unlike", {"mean": unlike, "off": abs(unlike - false_alarm)}, {"off": "<= 0.005"}),
        Row(
            "intervals of compositions hold the share",
            {"mean": float(np.mean([each.composition_coverage for each in found]))},
            {"mean": ">= 0.93"},
        ),
        Row("their half-width", {"mean": width}, {"mean": f"<= {HALF_WIDTH[task]}"}, number),
        Row("error of a share", {"mean": float(np.mean([each.composition_error for each in found]))}, {}, number),
        Row("balanced accuracy", {"mean": float(np.mean([each.accuracy for each in found]))}, {}, number),
        Row("fits", {"mean": float(np.mean([each.fits for each in found]))}, {}, {"mean": "{:.0f}"}),
    ]
    return [Row(f"{task}: {row.name}", row.values, row.bars, row.forms) for row in rows]


def main(seeds: Annotated[int, typer.Option("--seeds", min=1, help="Sets of cells that are simulated.")] = 20) -> None:
    """Simulate, train, print and write the table."""
    settings = config.load(Path("params.yaml"))
    found: dict[str, list[Held]] = {task: [] for task in HALF_WIDTH}
    for seed in tqdm(range(seeds), unit="seed"):
        with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
            cells, parts = prepare(Path(name), settings, seed)
            for task, results in found.items():
                results.append(measure(load_context(settings, task, cells, parts, "")))
    rows = [
        row
        for task, results in found.items()
        for row in summarise(task, settings.dataset.tasks[task], settings, results)
    ]
    publish("calibration", to_figures("calibration", rows), ["torch", "numpy", "scipy"], seeds)
    fill(PAGE, {"calibration": f"Means over {seeds} seeds:\n\n{table(rows)}"})


if __name__ == "__main__":
    command.run(main)
