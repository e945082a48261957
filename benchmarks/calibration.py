"""Whether calibration keeps its word on runs that no network has seen, over many simulated sets of cells.

Run with `fatescope bench calibration`; some four minutes a seed on two cores, of which there are 20 unless `--seeds`
says otherwise. For each seed, cells are simulated, ingested and split, and both tasks are trained with the section
`train` as it is, in the way of the stages: scout, folds, refit. What was calibrated is then held against the test
groups. It writes `reports/bench/calibration.json` and the table in `docs/explanation/uncertainty.md`.
"""

import json
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from scipy.special import softmax
from tqdm import tqdm

from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope import command, config, plural
from fatescope.atomic import replacing
from fatescope.config import Params
from pipelines.commands import simulate
from pipelines.evaluation.calibration_metrics import class_weights, debiased_error
from pipelines.evaluation.simulated_cultures import simulate_cultures
from pipelines.stages import ingest, split
from pipelines.training import selection, trainer
from pipelines.training.calibration import calibrate
from pipelines.training.context import TrainingContext, load_context
from pipelines.training.cross_fit import Unseen, deal_folds
from pipelines.training.prediction import predict

ANSWERS = Path("reports/bench/calibration")
PAGE = Path("docs/explanation/uncertainty.md")
BINS = 10
"""Of equal numbers of cells, of the calibration error."""
SCHEME = "grouped"
HALF_WIDTH = {"binary": 0.08, "multiclass": 0.12}
"""Task → bar of the half-width of a composition's interval."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Answers:
    """What a model says of the cells of its folds, and its refit of the test cells."""

    prior: Floats
    logits: Floats
    """(n, K) before the temperature."""
    distance: Floats
    """(n,) to the cells that it was trained on."""
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    test_logits: Floats
    test_distance: Floats
    test_targets: npt.NDArray[np.int64]
    test_groups: npt.NDArray[np.str_]
    fits: npt.NDArray[np.int64]
    """() networks trained for it."""

    def save(self, path: Path) -> None:
        """Write `path`, an .npz, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)


@dataclass(frozen=True)
class Held:
    """What the calibration of one model is worth on its test groups."""

    accuracy: float
    coverage: list[float]
    """Of the conformal sets, by class."""
    squared_error: float
    """Of calibration, without what chance adds to it (`debiased_error`)."""
    squared_error_of_runs: float
    """The same, without what the choice of the tested runs adds to it (`error_of_runs`)."""
    unlike: float
    """Share of the cells that are called unlike."""
    composition_coverage: float
    half_width: float
    composition_error: float
    """Mean absolute error of a share."""
    fits: int


def prepare(folder: Path, settings: Params, seed: int) -> tuple[Path, Path]:
    """Simulate, ingest and split cells in `folder`; return the paths of the cells and of the splits."""
    path = folder / "params.yaml"
    content = json.loads(settings.model_dump_json(by_alias=True))
    content["simulate"] |= {"seed": seed, "marker_channels": 0, "darkfield": False}
    path.write_text(json.dumps(content))
    simulate.simulate(config.load(path).simulate, folder / "data")
    ingest.main(path, folder / "data", folder / "cells")
    split.main(path, folder / "cells", folder / "splits.parquet")
    return folder / "cells", folder / "splits.parquet"


def train(context: TrainingContext) -> Answers:
    """Train the model of a task as the stage `train` does, and ask it for the cells of the folds and of the test."""
    params, classes = context.params, len(context.classes)
    examples, fits = context.examples(SCHEME), list[str]()

    def open_run(name: str, _: object) -> nullcontext[trainer.Report]:
        fits.append(name)
        return nullcontext(lambda *_: None)

    folds = deal_folds(examples, context.groups, params.calibrate, whole=True)
    [candidate] = selection.train_candidates(examples, folds, classes, [[params.train]], params, open_run)
    refit = selection.refit_candidate(candidate, examples, classes, params.train.seeds[0], params, open_run)
    unseen, rows = candidate.unseen, context.splits.indices(SCHEME, "test", context.classes)
    said = predict(refit.network, examples.pixels, rows)
    return Answers(
        prior=candidate.prior,
        logits=unseen.logits,
        distance=unseen.distance,
        targets=examples.targets[unseen.rows],
        groups=context.groups[unseen.rows],
        test_logits=said.logits * candidate.calibration.temperature,
        test_distance=refit.outliers.score(said.embedding),
        test_targets=examples.targets[rows],
        test_groups=context.groups[rows],
        fits=np.array(len(fits)),
    )


def answer(settings: Params, seed: int, *, resume: bool) -> dict[str, Answers]:
    """Return task → the answers of its model for the cells of a seed, which are kept in ANSWERS."""
    paths = {task: ANSWERS / f"{task}_{seed}.npz" for task in HALF_WIDTH}
    if not (resume and all(path.is_file() for path in paths.values())):
        with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
            cells, parts = prepare(Path(name), settings, seed)
            for task, path in paths.items():
                train(load_context(settings, task, cells, parts, "")).save(path)
    return {task: Answers.load(path) for task, path in paths.items()}


def error_of_runs(
    targets: npt.NDArray[np.int64], probabilities: Floats, groups: npt.NDArray[np.str_], weights: Floats
) -> float:
    """Return the mean squared difference of confidence and accuracy over bins, as it is of all runs there may be.

    Cells of one run err together. So a bin's square is the mean product of the errors of two different `groups`, which
    is unbiased where runs are drawn independently, and negative at times; cells count by (n,) `weights`.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    _, place = np.unique(groups, return_inverse=True)
    total = 0.0
    for cells in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        gaps = np.bincount(place[cells], weights[cells] * (confidence[cells] - right[cells]))
        sizes = np.bincount(place[cells], weights[cells])
        pairs = sizes.sum() ** 2 - (sizes**2).sum()
        total += sizes.sum() / weights.sum() * (gaps.sum() ** 2 - (gaps**2).sum()) / pairs
    return float(total)


def hold(answers: Answers, params: Params) -> Held:
    """Calibrate a model on its answers for the folds, and hold that against those for the test cells."""
    unseen = Unseen(np.arange(len(answers.targets)), answers.logits, answers.distance)
    calibration = calibrate(unseen, answers.targets, answers.groups, answers.prior, params.calibrate)
    probabilities, targets = softmax(answers.test_logits / calibration.temperature, axis=1), answers.test_targets
    classes = range(probabilities.shape[1])
    cultures, _ = simulate_cultures(
        targets,
        probabilities,
        answers.test_groups,
        answers.prior,
        calibration.composition_error,
        params.evaluate.mixtures,
        params.evaluate.mixture_cells,
        params.evaluate.seed,
    )
    right, weights = probabilities.argmax(1) == targets, class_weights(targets, answers.prior)
    return Held(
        accuracy=float(np.mean([right[targets == k].mean() for k in classes])),
        coverage=[float((probabilities[targets == k, k] >= calibration.conformal[k]).mean()) for k in classes],
        squared_error=debiased_error(targets, probabilities, BINS, weights),
        squared_error_of_runs=error_of_runs(targets, probabilities, answers.test_groups, weights),
        unlike=float((answers.test_distance > calibration.outlier_threshold).mean()),
        composition_coverage=cultures.interval_coverage,
        half_width=cultures.interval_width / 2,
        composition_error=cultures.mean_error,
        fits=int(answers.fits),
    )


def summarise(task: str, classes: list[str], stated: Params, found: list[Held]) -> list[Row]:
    """Return the means over the seeds, as rows of the table."""
    wanted, false_alarm = stated.calibrate.coverage, stated.calibrate.false_alarm
    # The mean before the root: errors of single seeds are unbiased, and negative at times.
    error, of_runs = (
        max(float(np.mean([getattr(each, name) for each in found])), 0.0) ** 0.5
        for name in ("squared_error", "squared_error_of_runs")
    )
    unlike, width = (float(np.mean([getattr(each, name) for each in found])) for name in ("unlike", "half_width"))
    held = [float(np.mean([each.coverage[k] for each in found])) for k in range(len(classes))]
    rows = [
        Row(f"conformal sets hold {name}", {"mean": share, "off": abs(share - wanted)}, {"off": "<= 0.02"})
        for name, share in zip(classes, held, strict=True)
    ]
    number = {"mean": "{:.3f}", "off": "{:.3f}"}
    rows += [
        Row("calibration error", {"mean": error}, {"mean": "<= 0.03"}, number),
        Row("the same, whichever runs are tested", {"mean": of_runs}, {"mean": "<= 0.03"}, number),
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


def main(
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Sets of cells that are simulated.")] = 20,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take the answers that an earlier run of the same settings has kept.")
    ] = False,
) -> None:
    """Simulate, train, print and write the table."""
    settings = config.load(Path("params.yaml"))
    found: dict[str, list[Held]] = {task: [] for task in HALF_WIDTH}
    for seed in tqdm(range(seeds), unit="seed"):
        for task, answers in answer(settings, seed, resume=resume).items():
            found[task].append(hold(answers, settings))
    rows = [
        row
        for task, results in found.items()
        for row in summarise(task, settings.dataset.tasks[task], settings, results)
    ]
    publish("calibration", to_figures("calibration", rows), ["torch", "numpy", "scipy"], seeds)
    fill(PAGE, {"calibration": f"Means over {plural.count(seeds, 'seed')}:\n\n{table(rows)}"})


if __name__ == "__main__":
    command.run(main)
