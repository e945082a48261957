"""Simulated cultures: test cells mixed in known shares, to see how well the composition of a culture is estimated."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.inference import composition
from pipelines.evaluation.metrics_report import CompositionMetrics

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def simulate_cultures(
    targets: Indices,
    probabilities: Floats,
    groups: Texts,
    prior: Floats,
    error: Floats,
    cultures: int,
    cells: int,
    seed: int,
) -> tuple[CompositionMetrics, pd.DataFrame]:
    """Estimate the composition of `cultures` of `cells` cells each, by expectation maximisation and by counting.

    In each culture the cells of a class come from one acquisition group, as they would from one run. `prior` and
    `error` are those of `composition.estimate`. The table has one row a culture and class: `class` (its index),
    `truth`, `estimated` and `counted` (shares).
    """
    rng, size = np.random.default_rng(seed), probabilities.shape[1]
    rows, inside, widths = [], [], []
    for _ in range(cultures):
        counts = rng.multinomial(cells, rng.dirichlet(np.ones(size)))
        chosen = _draw_cells(counts, targets, groups, rng)
        estimate = composition.estimate(probabilities[chosen], prior, error)
        counted = np.bincount(probabilities[chosen].argmax(1), minlength=size) / cells
        truth = counts / cells
        inside.append((estimate.low <= truth) & (truth <= estimate.high))
        widths.append(estimate.high - estimate.low)
        rows += [(k, truth[k], estimate.shares[k], counted[k]) for k in range(size)]
    table = pd.DataFrame(rows, columns=["class", "truth", "estimated", "counted"])
    metrics = CompositionMetrics(
        mean_error=float((table["estimated"] - table["truth"]).abs().mean()),
        mean_error_of_counting=float((table["counted"] - table["truth"]).abs().mean()),
        interval_coverage=float(np.mean(inside)),
        interval_width=float(np.mean(widths)),
    )
    return metrics, table


def _draw_cells(counts: Indices, targets: Indices, groups: Texts, rng: np.random.Generator) -> Indices:
    """Draw `counts[k]` cells of class k with replacement from one of its groups; return their rows."""
    drawn = []
    for k, count in enumerate(counts):
        of_class = np.flatnonzero(targets == k)
        group = rng.choice(np.unique(groups[of_class]))
        drawn.append(rng.choice(of_class[groups[of_class] == group], count))
    return np.concatenate(drawn).astype(int)
