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
    # Once for all cultures: test cells may be millions.
    by_group = [_rows_by_group(np.flatnonzero(targets == k), groups) for k in range(size)]
    rows, inside, widths = [], [], []
    for _ in range(cultures):
        counts = rng.multinomial(cells, rng.dirichlet(np.ones(size)))
        chosen = _draw_cells(counts, by_group, rng)
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


def _rows_by_group(of_class: Indices, groups: Texts) -> list[Indices]:
    """Return the rows `of_class` by their group, in the order of the names of the groups."""
    place = np.unique(groups[of_class], return_inverse=True)[1]
    ends = np.cumsum(np.bincount(place))[:-1]
    return np.split(of_class[np.argsort(place, kind="stable")], ends)


def _draw_cells(counts: Indices, by_group: list[list[Indices]], rng: np.random.Generator) -> Indices:
    """Draw `counts[k]` cells of class k with replacement from one of its groups; return their rows."""
    drawn = [rng.choice(of_class[rng.integers(len(of_class))], k) for k, of_class in zip(counts, by_group, strict=True)]
    return np.concatenate(drawn).astype(int)
