"""Whether intervals, verdicts, splits and the audit keep their word, by simulation.

Run with `fatescope bench verdicts`; some minutes, without data. It runs the code that evaluation and the gate run, on
predictions that are drawn from a population whose figures are known, and writes `reports/bench/verdicts.json` and the
tables in `docs/explanation/verdicts.md`. Whether it is known how right a model is now (`benchmarks.right_now`, tables
in `docs/explanation/accuracy.md`) is measured on the models that `fatescope bench calibration` has kept; without
these, three are trained first, some four minutes each. Silence on new media needs the model of `fatescope repro`.

A section is a function that returns rows; add it to SECTIONS, and its two markers to the page.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks import compared_cultures, right_now
from benchmarks.growth_and_audit import accuse, grow
from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope import command, config
from fatescope.config import Gate
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.calibration_metrics import squared_errors
from pipelines.evaluation.intervals import Interval, Units
from pipelines.registry import gate, looks
from pipelines.registry.gate import Champion
from pipelines.registry.paired import PairedPredictions

Floats = npt.NDArray[np.floating]

SEED = 0
PAGE = Path("docs/explanation/verdicts.md")

CELLS = 83
"""Cells of a group of the default data when these spreads were measured: 3,000 cells in 36 groups."""
ACCURACY = 0.85
GROUP_SD = 0.40
"""Of the groups' places on the scale of normal quantiles; their accuracies then differ by a standard deviation of 0.09.

Two compact networks with the settings of `params.yaml`, fitted to the default cells in three folds by group, gave 0.09
(binary) and 0.10 (multiclass) between the groups of a class and a fold, beyond the chance of 83 cells; the test groups
of `predictions.parquet` gave 0.04 (random scheme) and less (grouped).
"""
DIFFERENCE_SD = 0.14
"""Of the difference between two models, on that scale: 0.03 in accuracy. The same networks gave 0.01 and 0.03."""
CORRELATION = 0.75
"""Of what is left of two models in a cell: one in eight is then right in one of them alone; there it was 9 and 13 %."""
GAIN = 0.05
"""In accuracy, of the challenger that should be promoted."""
LOOKS = 10

COVERAGE_GROUPS = (3, 4, 8, 16)
GATE_GROUPS = (2, 3, 4, 8)
CLASSES = (2, 4)
COVERAGE_DRAWS, GATE_DRAWS = 4000, 1000


@dataclass(frozen=True)
class Population:
    """Groups of K classes, and two models whose figures on it are known."""

    classes: int
    groups: int
    """Of each class."""
    gain: float = 0.0
    """Accuracy of the later model less that of the earlier one."""

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Return the (N,) classes of the cells."""
        return np.repeat(np.arange(self.classes), self.groups * CELLS)

    @property
    def names(self) -> npt.NDArray[np.str_]:
        """Return the (N,) groups of the cells."""
        numbers = np.repeat(np.arange(self.classes * self.groups), CELLS)
        return np.char.add(np.array([f"class{k}-" for k in self.targets]), numbers.astype(str))

    def shift(self, after: bool) -> float:
        """Return the mean place of the cells of a model: those above 0 are right."""
        accuracy = ACCURACY + (self.gain if after else 0)
        return float(stats.norm.ppf(accuracy)) * self.deviation(after)

    def deviation(self, after: bool) -> float:
        """Return the standard deviation of these places."""
        return float(np.sqrt(1 + GROUP_SD**2 + (DIFFERENCE_SD**2 if after else 0)))

    def draw(self, rng: np.random.Generator, challengers: int = 1) -> tuple[Floats, list[Floats]]:
        """Draw the (N,) places of the cells under the earlier model, and under each of the later ones."""
        count = self.classes * self.groups
        common, noise = rng.normal(0, GROUP_SD, (count, 1)), rng.normal(0, 1, (count, CELLS))
        before = self.shift(False) + common + noise
        after = [
            self.shift(True)
            + common
            + rng.normal(0, DIFFERENCE_SD, (count, 1))
            + CORRELATION * noise
            + np.sqrt(1 - CORRELATION**2) * rng.normal(0, 1, noise.shape)
            for _ in range(challengers)
        ]
        return before.ravel(), [places.ravel() for places in after]

    def probabilities(self, places: Floats) -> Floats:
        """Return (N, K) probabilities: what the true class does not get goes to the next one."""
        right = _confidence(places)
        table = np.zeros((len(places), self.classes))
        rows = np.arange(len(places))
        table[rows, self.targets] = right
        table[rows, (self.targets + 1) % self.classes] = 1 - right
        return table

    def pair(self, before: Floats, after: Floats) -> PairedPredictions:
        """Return the predictions of both models as the gate gets them."""
        return PairedPredictions(
            rows=np.arange(len(before)),
            classes=[f"class{k}" for k in range(self.classes)],
            targets=self.targets,
            groups=self.names,
            before=self.probabilities(before),
            after=self.probabilities(after),
            cost_before=1.0,
            cost_after=1.0,
        )

    def truth(self) -> dict[str, float]:
        """Return the figures of the earlier model, and the difference of the later one, over all groups there could be.

        Those of a binary task.
        """
        mean, deviation = self.shift(False), self.deviation(False)
        grid = np.linspace(-8, 8, 4001)
        density = stats.norm.pdf(grid) / stats.norm.pdf(grid).sum()
        return {
            "accuracy": ACCURACY,
            "AUC": float(stats.norm.cdf(np.sqrt(2) * mean / deviation)),
            "Brier score": float((density * 2 * (1 - _confidence(mean + deviation * grid)) ** 2).sum()),
            "difference": self.gain,
        }


def _confidence(places: Floats) -> Floats:
    """Return the probability of the true class of cells at these places."""
    right: Floats = 1 / (1 + np.exp(-2 * float(stats.norm.ppf(ACCURACY)) * places))
    return right


def measure(population: Population, rng: np.random.Generator) -> dict[str, tuple[Interval, float]]:
    """Draw test cells; return figure → its interval, and the width of the t interval of as many group means."""
    before, [after] = population.draw(rng)
    targets, classes = population.targets, population.classes
    units = intervals.choose_units(population.names, targets.astype(str))
    first, second = population.probabilities(before), population.probabilities(after)
    counts = [intervals.counts_without(targets, p.argmax(1), units, classes) for p in (first, second)]
    accuracies = [metrics.balanced_accuracy(count) for count in counts]
    areas = intervals.auc_without(first[:, 0], targets == 0, units)
    errors = intervals.mean_without(squared_errors(targets, first), targets, np.ones(len(targets)), units)
    drawn = {
        "accuracy": (accuracies[0], intervals.SHARE),
        "AUC": (areas, intervals.SHARE),
        "Brier score": (errors, metrics.RANGES["brier"]),
        "difference": (accuracies[1] - accuracies[0], intervals.DIFFERENCE),
    }
    return {
        name: (intervals.interval(values, units, bounds), _width(values, units))
        for name, (values, bounds) in drawn.items()
    }


def _width(values: Floats, units: Units) -> float:
    """Return the width of the plain t interval, with a degree of freedom for each group beyond one a class."""
    freedom = len(units.stratum) - units.stratum.max() - 1
    return 2 * float(stats.t.ppf(0.975, freedom)) * intervals.spread(values, units).error


def cover(draws: int = COVERAGE_DRAWS, groups: tuple[int, ...] = COVERAGE_GROUPS) -> list[Row]:
    """Return how often 95 % intervals hold the truth, and their width over that of the plain t interval."""
    rows = list[Row]()
    for count in groups:
        population, rng = Population(2, count, GAIN), np.random.default_rng(SEED)
        truth = population.truth()
        found = [measure(population, rng) for _ in range(draws)]
        for name, value in truth.items():
            held = [ends.low <= value <= ends.high for ends, _ in (each[name] for each in found)]
            ours = np.mean([each[name][0].high - each[name][0].low for each in found])
            plain = np.mean([each[name][1] for each in found])
            rows.append(
                Row(
                    f"{name}, {count} groups a class",
                    {"coverage": float(np.mean(held)), "width": float(ours / plain), "mean width": float(ours)},
                    {"coverage": ">= 0.93", "width": "<= 1.3"},
                    {"width": "{:.2f}", "mean width": "{:.3f}"},
                )
            )
    return rows


def promotions(population: Population, settings: Gate, rng: np.random.Generator, challengers: int) -> list[bool]:
    """Draw a champion and challengers one after the other; return which of them the criterion `better` lets pass."""
    before, after = population.draw(rng, challengers)
    seen = frozenset(map(looks.digest, np.unique(population.names).tolist()))
    return [
        gate.better(Champion("1", population.pair(before, places), (seen,) * look), settings).holds
        for look, places in enumerate(after)
    ]


def promote(draws: int = GATE_DRAWS, groups: tuple[int, ...] = GATE_GROUPS) -> list[Row]:
    """Return how often the gate promotes a challenger no better, at one look and at any of ten, and a better one."""
    settings = config.load(Path("params.yaml")).gate
    level = 1 - settings.confidence
    bar = f"<= {level + 2 * float(np.sqrt(level * (1 - level) / draws)):.4f}"
    rows = list[Row]()
    for classes in CLASSES:
        for count in groups:
            rng = np.random.default_rng(SEED)
            alike, ahead = Population(classes, count), Population(classes, count, GAIN)
            none_better = np.array([promotions(alike, settings, rng, LOOKS) for _ in range(draws)])
            one_better = np.array([promotions(ahead, settings, rng, 1) for _ in range(draws)])
            first, any_look, power = f"first of {LOOKS} looks", f"any of {LOOKS} looks", f"power at +{GAIN}"
            rows.append(
                Row(
                    f"{classes} classes, {count} groups a class" + (", signed" if count < settings.min_groups else ""),
                    {
                        first: float(none_better[:, 0].mean()),
                        any_look: float(none_better.any(1).mean()),
                        power: float(one_better.mean()),
                    },
                    {first: bar, any_look: bar, **({power: ">= 0.8"} if (classes, count) == (2, 8) else {})},
                )
            )
    return rows


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "intervals": cover,
    "promotion": promote,
    "splits": grow,
    "audit": accuse,
    "cultures": compared_cultures.compare,
}
"""Section → what returns its rows; `<!-- verdicts:SECTION -->` and `<!-- end -->` are around its table on the page."""


def main() -> None:
    """Simulate, print and write the tables."""
    if not PAGE.exists():
        sys.exit(f"{PAGE}: not in this folder; run from the folder of the project")
    rows = {section: run() for section, run in SECTIONS.items()}
    figures = [figure for section, found in rows.items() for figure in to_figures(section, found)]
    now = {section: run() for section, run in right_now.SECTIONS.items()}
    figures += [figure for section, found in now.items() for figure in to_figures(f"now, {section}", found)]
    publish("verdicts", figures, ["numpy", "scipy"], SEED)
    fill(PAGE, {f"verdicts:{section}": table(found) for section, found in rows.items()})
    fill(right_now.PAGE, {f"now:{section}": table(found) for section, found in now.items() if found})


if __name__ == "__main__":
    command.run(main)
