"""Whether comparisons of cultures keep their word: a section of `benchmarks.verdicts`.

Cells of two classes have a place on a line, and a classifier that is right in ACCURACY of them says how probable each
class is. In every run the cells of each class are moved by RUN_SD, which the classifier does not know. It is calibrated
on other runs by `composition.learn_error`; cultures are then drawn, composed and compared by the code of the
service, and their raw calls by Student's t-test.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.tables import Row
from fatescope.inference import comparison, composition, mean_composition
from fatescope.inference.comparison import Estimate, Sample
from fatescope.inference.mean_composition import MeanComposition

Floats = npt.NDArray[np.floating]

SEED = 0
DRAWS = 1000
ACCURACY = 0.85
RUN_SD = 0.2
"""In standard deviations of a class. It gives intervals of compositions as wide as the binary task of the default data
has them (docs/explanation/composition.md)."""
RUNS, RUN_CELLS = 18, 83
"""Of each class, for the calibration; as in `benchmarks.verdicts`."""
REFERENCE_CELLS = 2000
CELLS = 400
"""Of a culture."""
_PRIOR = np.full(2, 0.5)
_PLACE = float(stats.norm.ppf(ACCURACY))
_GRID = 0.1
"""To which logits are rounded, so that cells of one logit can be counted together."""


@dataclass(frozen=True)
class Experiment:
    """Cultures of two conditions."""

    name: str
    replicates: int = 3
    share: float = 0.5
    """Mean share of the first class in the reference."""
    gain: float = 0.12
    """How much larger it is in the condition, where they differ."""
    spread: float = 0.05
    """Standard deviation of the share between replicates of the reference."""
    ratio: float = 1.0
    """That of the condition over that of the reference."""
    one_run: bool = True
    """Whether all were recorded in one run; else each was in its own."""
    donors: float | None = None
    """Standard deviation of the share between donors, each of whom is in both conditions; None without donors."""
    barred: bool = True
    """Whether the bars are for it."""


EXPERIMENTS = (
    Experiment("2 against 2 replicates", replicates=2),
    Experiment("3 against 3"),
    Experiment("3 against 3, each in a run of its own", one_run=False),
    Experiment("3 against 3, a rare class", share=0.02, gain=0.06, spread=0.012),
    Experiment("3 against 3, a large difference", share=0.2, gain=0.6),
    Experiment("3 against 3, one scatters twice as much", ratio=2.0, barred=False),
    Experiment("6 against 6", replicates=6),
    Experiment("4 donors, paired", replicates=4, donors=0.15),
)


def compare(draws: int = DRAWS, experiments: Iterable[Experiment] = EXPERIMENTS) -> list[Row]:
    """Return how often intervals hold the truth, and how often a difference is found: without one, and with one."""
    rows = []
    for experiment in experiments:
        rng = np.random.default_rng(SEED)
        alike, apart = replace(experiment, gain=0.0), experiment
        none = [_ask(alike, rng) for _ in range(draws)]
        some = [_ask(apart, rng) for _ in range(draws)]
        ours, plain = (np.array(found) for found in zip(*((e.differs, p < 0.05) for e, p in some), strict=True))
        held = [
            estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high
            for results, truth in ((none, 0.0), (some, apart.gain))
            for estimate, _ in results
        ]
        # Both were found in the same cultures, so that the error of the difference is what decides.
        least = plain.mean() - 2 * (ours.astype(float) - plain).std() / draws**0.5
        rows.append(
            Row(
                experiment.name,
                {
                    "coverage": float(np.mean(held)),
                    "false positives": float(np.mean([estimate.differs for estimate, _ in none])),
                    "power": float(ours.mean()),
                    "power of a t-test on raw calls": float(plain.mean()),
                    "its false positives": float(np.mean([p < 0.05 for _, p in none])),
                },
                {
                    "coverage": ">= 0.93",
                    "false positives": f"<= {0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5:.4f}",
                    "power": f">= {max(least, 0):.4f}",
                }
                if experiment.barred
                else {},
            )
        )
    return rows


def _ask(experiment: Experiment, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Draw cultures; return the estimate of their difference, and the p-value of the t-test on raw calls."""
    learned, error = _calibrate()
    run, count = rng.normal(0, RUN_SD, 2), experiment.replicates
    people = np.zeros(count) if experiment.donors is None else rng.normal(0, experiment.donors, count)
    sides, calls = [], []
    for name, mean, ratio in (
        ("condition", experiment.share + experiment.gain, experiment.ratio),
        ("reference", experiment.share, 1.0),
    ):
        truth = np.clip(mean + people + rng.normal(0, experiment.spread * ratio, count), 0, 1)
        drawn = [_draw(share, CELLS, run if experiment.one_run else rng.normal(0, RUN_SD, 2), rng) for share in truth]
        donors = [None if experiment.donors is None else str(i) for i in range(count)]
        sides.append([
            _to_sample(f"{name}{donor}", name, cells, learned, donor)
            for cells, donor in zip(drawn, donors, strict=True)
        ])  # fmt: skip
        calls.append([float((cells[:, 0] > 0.5).mean()) for cells in drawn])
    test = stats.ttest_ind if experiment.donors is None else stats.ttest_rel
    return comparison.compare(sides[0], sides[1], error)[0], float(test(*calls).pvalue)


def _draw(share: float, cells: int, run: Floats, rng: np.random.Generator) -> Floats:
    """Return the (n, 2) probabilities of the cells of a culture."""
    first = rng.random(cells) < share
    places = np.where(first, _PLACE + run[0], run[1] - _PLACE) + rng.normal(0, 1, cells)
    # Over all runs, the places of a class scatter by this much more.
    logits = np.round(2 * _PLACE * places / (1 + RUN_SD**2) / _GRID) * _GRID
    right = 1 / (1 + np.exp(-logits))
    return np.stack([right, 1 - right], axis=1)


def _to_sample(name: str, condition: str, probabilities: Floats, learned: MeanComposition, donor: str | None) -> Sample:
    """Return a sample as the service makes it of a composition and of mean probabilities."""
    places, numbers = np.unique(probabilities, axis=0, return_counts=True)
    shares = composition.maximise_likelihood(places, _PRIOR, numbers.astype(float))
    chance = learned.chance(shares, len(probabilities))
    return Sample(name, condition, learned.uncut(shares, probabilities.mean(0), chance), chance, donor=donor)


@lru_cache(maxsize=1)
def _calibrate() -> tuple[MeanComposition, Floats]:
    """Return what is learned of the classifier, and the error of compositions, from runs of single classes."""
    rng = np.random.default_rng(SEED)
    targets = np.repeat([0, 1], RUNS * RUN_CELLS)
    groups = np.repeat(np.arange(2 * RUNS), RUN_CELLS)
    probabilities = np.concatenate([
        _draw(1.0 - target, RUN_CELLS, rng.normal(0, RUN_SD, 2), rng) for target in (0, 1) for _ in range(RUNS)
    ])  # fmt: skip
    error = composition.learn_error(probabilities, targets, groups, _PRIOR, SEED)
    reference = rng.choice(len(probabilities), REFERENCE_CELLS, replace=False)
    return mean_composition.learn(probabilities[reference], _PRIOR), error
