"""Whether it is known how right a model is: without labels, from few of them, and when an alarm is raised.

The models are those that `fatescope bench calibration` trains on simulated cells, SEEDS of them where none were kept.
Windows are drawn from their test groups, of which they have seen nothing. What is new to a model is drawn for the one
in `artifacts/binary/bundle`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from benchmarks.calibration import ANSWERS, Answers, answer
from benchmarks.drift import NEW, TASK, draw_windows
from benchmarks.drift_cells import describe, draw
from benchmarks.tables import Row
from fatescope import config
from fatescope.inference import accuracy, bundle, evidence, labelling
from fatescope.inference.accuracy import Error
from fatescope.inference.labelling import Labelled
from monitoring.accuracy import AccuracyWatch
from monitoring.drift import Detector
from pipelines.training.calibration import temperature

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

SEED, SEEDS = 0, 3
WINDOW, WINDOWS = 500, 40
"""Cells of a window, and windows of each kind for each model."""
LIKE, MIXTURE, RUN = "like cells", "changed mixtures", "changed mixtures, one run a class"
LABELS = 100
"""Of a window, for the interval from labels."""
FEWER = np.arange(25, LABELS + 1, 5)
"""Numbers of labels among which the one is sought that gives the width of LABELS at random."""
STREAMS = {"binary": 100, "multiclass": 30}
"""Task → models in use that are watched."""
BATCHES, LOOKS = 10, 100
"""Batches of labels, and looks at each of them: 1,000 looks."""
SILENT_CELLS, SILENT_WINDOWS = 300, 100
"""Cells of each group, and windows, of what is new to a model."""
NUMBER = {"error": "{:.3f}", "width": "{:.3f}", "labels": "{:.2f}"}


@dataclass(frozen=True)
class Tested:
    """A trained model on the cells of its test groups."""

    probabilities: Floats
    targets: Indices
    groups: npt.NDArray[np.str_]
    prior: Floats
    error: Error

    @classmethod
    def of(cls, answers: Answers) -> "Tested":
        """Calibrate a model on its answers for the folds."""
        divisor = temperature(answers.logits, answers.targets, answers.prior)
        unseen = softmax(answers.logits / divisor, axis=1)
        error = accuracy.learn_error(unseen, answers.targets, answers.groups, answers.prior)
        assert error is not None
        tested = softmax(answers.test_logits / divisor, axis=1)
        return cls(tested, answers.test_targets, answers.test_groups, answers.prior, error)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Return (n,) whether each cell is predicted right."""
        return self.probabilities.argmax(1) == self.targets

    def draw(self, kind: str, rng: np.random.Generator) -> Indices:
        """Draw the rows of a window."""
        size = len(self.prior)
        counts = rng.multinomial(WINDOW, np.full(size, 1 / size) if kind == LIKE else rng.dirichlet(np.ones(size)))
        rows = []
        for k, count in enumerate(counts):
            of_class = np.flatnonzero(self.targets == k)
            if kind == RUN:
                of_class = of_class[self.groups[of_class] == rng.choice(np.unique(self.groups[of_class]))]
            rows.append(rng.choice(of_class, count))
        return np.concatenate(rows)

    def truth(self, rows: Indices, classes: npt.NDArray[np.bool_] | None = None) -> float:
        """Return the balanced accuracy of these rows, of those of the classes that are among them."""
        targets, right = self.targets[rows], self.right[rows]
        chosen = range(len(self.prior)) if classes is None else np.flatnonzero(classes)
        return float(np.mean([right[targets == k].mean() for k in chosen if (targets == k).any()]))


def models(task: str) -> Iterator[Tested]:
    """Yield the models of a task that were kept, or SEEDS new ones."""
    if not list(ANSWERS.glob(f"{task}_*.npz")):
        for seed in range(SEEDS):
            answer(config.load(Path("params.yaml")), seed, resume=True)
    for path in sorted(ANSWERS.glob(f"{task}_*.npz")):
        yield Tested.of(Answers.load(path))


def estimate() -> list[Row]:
    """Return how far estimates without labels are off, and how often their intervals hold the truth."""
    rows = []
    for task in STREAMS:
        trained = list(models(task))
        for kind in (LIKE, MIXTURE, RUN):
            rng, found = np.random.default_rng(SEED), []
            for model in trained:
                for _ in range(WINDOWS):
                    drawn = model.draw(kind, rng)
                    estimated = accuracy.estimate(model.probabilities[drawn], model.prior, model.error)
                    real = model.truth(drawn, estimated.classes)
                    held = estimated.low <= real <= estimated.high
                    found.append((abs(estimated.value - real), held, estimated.high - estimated.low))
            error, coverage, width = np.mean(found, axis=0)
            bars = {"coverage": ">= 0.93"} | ({} if kind == RUN else {"error": "<= 0.03"})
            values = {"error": error, "coverage": coverage, "width": width, "models": len(trained)}
            rows.append(Row(f"{task}, {kind}", values, bars, NUMBER | {"models": "{:.0f}"}))
    return rows


def label() -> list[Row]:
    """Return how often intervals from labels hold the truth, and how many labels they need of those at random."""
    rows = []
    for task in STREAMS:
        for kind in (LIKE, MIXTURE):
            rng, widths, both, plain, held = np.random.default_rng(SEED), [], [], [], []
            for model in models(task):
                for _ in range(WINDOWS // 4):
                    drawn = model.draw(kind, rng)
                    found = _drawn(model, drawn, rng)
                    low, high = _at_random(model, drawn, rng)
                    without = accuracy.estimate(model.probabilities[drawn], model.prior, model.error)
                    # Labels alone count where the two contradict each other.
                    joined = [accuracy.combine(each.as_estimate(), without) or each for each in found]
                    real = model.truth(drawn, found[-1].classes)
                    held.append([each.low <= real <= each.high for each in (found[-1], joined[-1])])
                    widths.append([each.high - each.low for each in found])
                    both.append([each.high - each.low for each in joined])
                    plain.append(high - low)
            bars = {"coverage": ">= 0.93", "labels": "<= 0.5"}
            for place, (name, values) in enumerate((("labels alone", widths), ("with the estimate", both))):
                mean = np.mean(values, axis=0)
                columns = {
                    "coverage": np.mean(held, axis=0)[place],
                    "width": mean[-1],
                    "width at random": np.mean(plain),
                    "labels": float(np.interp(-np.mean(plain), -mean, FEWER)) / LABELS,
                }
                rows.append(Row(f"{task}, {kind}, {name}", columns, bars, NUMBER | {"width at random": "{:.3f}"}))
    return rows


def _drawn(model: Tested, rows: Indices, rng: np.random.Generator) -> list[Labelled]:
    """Return the estimate and interval from each number of labels of drawn cells."""
    expected = accuracy.expect(model.probabilities[rows], model.prior)
    order = labelling.draw(expected, LABELS, rng)
    found = []
    for count in FEWER:
        first = order.rows[:count]
        estimated = labelling.from_labels(
            expected.posteriors[first],
            expected.predicted[first],
            model.targets[rows[first]],
            order.sizes[:count],
            float(order.keys[count]),
            expected.table,
        )
        assert estimated is not None
        found.append(estimated)
    return found


def _at_random(model: Tested, rows: Indices, rng: np.random.Generator) -> tuple[float, float]:
    """Return the interval from LABELS cells at random, by their recalls alone."""
    chosen = rng.choice(rows, LABELS, replace=False)
    true = np.eye(len(model.prior))[model.targets[chosen]]
    counts = true.sum(0)
    recalls = (true * model.right[chosen, None]).sum(0) / np.maximum(counts, 1)
    present = counts > 0
    residuals = (true * (model.right[chosen, None] - recalls) * present / np.maximum(counts, 1)).sum(1) / present.sum()
    error = float(np.sqrt((residuals**2).sum() * (1 - LABELS / WINDOW)))
    return accuracy.interval(float(recalls[present].mean()), accuracy.student(LABELS - 1) * error)


def alarm() -> list[Row]:
    """Return how often an alarm is raised in 1,000 looks at a model that is as right as promised, and how soon."""
    rows = []
    for task, streams in STREAMS.items():
        trained, rng, alarms, labels = list(models(task)), np.random.default_rng(SEED), [], []
        for stream in range(streams):
            model = trained[stream % len(trained)]
            promised = model.truth(np.arange(len(model.targets)))
            # A look after each label would take too long where there are four classes.
            looks = LOOKS if task == "binary" else LOOKS // 10
            alarms.append(_raised(model, promised, rng, looks) is not None)
            if stream < streams // 3:
                labels.append(_raised(model, promised + 0.1, rng, 1) or np.inf)
        values = {"false alarms": np.mean(alarms), "looks": BATCHES * looks, "streams": streams}
        values |= {"labels": np.median(labels)}
        forms = {"looks": "{:,.0f}", "streams": "{:.0f}", "labels": "{:.0f}"}
        rows.append(Row(task, values, {"false alarms": "<= 0.01"}, forms))
    return rows


def _raised(model: Tested, floor: float, rng: np.random.Generator, looks: int) -> int | None:
    """Return after how many labels the alarm is raised; None where it is not."""
    closed, classes = list[Floats](), len(model.prior)
    for number in range(BATCHES):
        rows = model.draw(LIKE, rng)
        expected = accuracy.expect(model.probabilities[rows], model.prior)
        order = labelling.draw(expected, LABELS, rng)
        for look in range(1, looks + 1):
            count = LABELS * look // looks
            first = order.rows[:count]
            answers = evidence.Answers(
                expected.predicted[first], model.targets[rows[first]], order.sizes[:count], WINDOW
            )
            gains = evidence.gains_of(answers, classes)
            if evidence.weigh([*closed, gains], min(floor, 0.99)) >= -np.log(evidence.LEVEL):
                return number * LABELS + count
        closed.append(gains)
    return None


def fall_silent() -> list[Row]:
    """Return in which share of windows there is no estimate; empty without the model of a project."""
    folder = Path("artifacts") / TASK / "bundle"
    if not folder.is_dir():
        print(f"{folder}: no such model, so that silence is not measured; run `fatescope repro` first")
        return []
    model, reference = bundle.load(folder, 1), pd.read_parquet(folder / bundle.REFERENCE)
    settings = config.load(Path("params.yaml")).simulate.model_copy(update={"marker_channels": 0, "darkfield": False})
    groups = [name.split("_") for name in reference.loc[~reference["seen"], "group"].unique()]
    keys = [(medium, int(day), int(run)) for medium, day, run in groups]
    like = describe(model, draw(settings, keys, SILENT_CELLS))
    new = [(medium, day, run) for medium in NEW for _, day, run in keys[:2]]
    unlike = describe(model, draw(settings, new, SILENT_CELLS))
    count = min(len(like), len(unlike))
    half = pd.concat([table.sample(count, random_state=SEED) for table in (like, unlike)])
    detector, watch = Detector(reference), AccuracyWatch.of(reference, model.spec.prior)
    kinds = {"cells of new media": unlike, "half of them of new media": half, "like cells": like}
    bars = {"cells of new media": ">= 0.95", "half of them of new media": ">= 0.95", "like cells": "<= 0.05"}
    return [
        Row(
            name,
            {
                "silent": np.mean([
                    watch.estimate(window, detector.evaluate(window)).estimate is None
                    for window in draw_windows(pool, WINDOW, SILENT_WINDOWS)
                ])
            },
            {"silent": bars[name]},
        )
        for name, pool in kinds.items()
    ]  # fmt: skip


PAGE = Path("docs/explanation/accuracy.md")
SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "estimate": estimate,
    "silence": fall_silent,
    "labels": label,
    "alarms": alarm,
}
"""Section → what returns its rows; `<!-- now:SECTION -->` and `<!-- end -->` are around its table on PAGE."""
