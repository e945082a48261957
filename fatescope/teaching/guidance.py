"""Where the next label says most, and which labels the others contradict."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.teaching.head import Space
from fatescope.teaching.lesson import Cells, Lesson
from fatescope.teaching.regression import log_probabilities

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

CANDIDATES = 5
"""Times as many uncertain cells as are asked for, among which those that are unlike each other are chosen."""
CONTRADICTED = 0.9
"""Probability of another class from which a label is shown as contradicted."""


@dataclass(frozen=True)
class Contradiction:
    """A label that the head which did not know it contradicts."""

    row: int
    """Among the labelled cells."""
    label: str
    called: str
    probability: float
    """Of the class that it is called."""


def next_cells(lesson: Lesson | None, labelled: Cells, waiting: Cells, count: int) -> Indices:
    """Return up to `count` rows of `waiting`, in the order in which they should be labelled.

    Of the cells that a lesson is least sure of, those that are far from each other and from what was labelled: twins
    would say the same. Before the first lesson, those that are far from each other alone.
    """
    total = len(waiting.samples)
    if total == 0:
        return np.zeros(0, np.int64)
    everything = np.concatenate([labelled.embedding, waiting.embedding])
    space = Space.of(everything, np.concatenate([labelled.features, waiting.features]))
    points = space.points(waiting.embedding, waiting.features, "both")
    known = space.points(labelled.embedding, labelled.features, "both")
    rows = np.arange(total)
    if lesson is not None:
        rows = np.argsort(-_doubt(lesson, waiting), kind="stable")[: CANDIDATES * count]
    return rows[_spread(points[rows], known, count)]


def contradictions(lesson: Lesson) -> list[Contradiction]:
    """Return the labels that are contradicted, the most strongly first."""
    probabilities = np.exp(lesson.left_out)
    called = probabilities.argmax(1)
    most = probabilities.max(1)
    rows = np.flatnonzero((called != lesson.targets) & (most >= CONTRADICTED))
    return [
        Contradiction(int(row), lesson.classes[lesson.targets[row]], lesson.classes[called[row]], float(most[row]))
        for row in rows[np.argsort(-most[rows], kind="stable")]
    ]


def _doubt(lesson: Lesson, cells: Cells) -> Floats:
    """Return (n,) how close the two most probable classes of each cell are, 1 where they are equal."""
    logits = lesson.head.logits(cells.embedding, cells.features).astype(np.float64)
    best = np.sort(np.exp(log_probabilities(logits)), axis=1)
    doubt: Floats = 1 - (best[:, -1] - best[:, -2])
    return doubt


def _spread(points: Floats, known: Floats, count: int) -> Indices:
    """Return up to `count` rows of (n, D) points, each the farthest from those before it and from `known` ones."""
    if len(known):
        distance = np.full(len(points), np.inf)
        for point in known:
            np.minimum(distance, ((points - point) ** 2).sum(1), out=distance)
    else:
        distance = ((points - points.mean(0)) ** 2).sum(1)
        # The most typical cell is the first: those at the edge are often debris.
        distance = distance.max() - distance
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        row = int(np.argmax(distance))
        chosen.append(row)
        apart = ((points - points[row]) ** 2).sum(1)
        distance = apart if len(chosen) == 1 and not len(known) else np.minimum(distance, apart)
        distance[chosen] = -1.0
    return np.array(chosen, np.int64)
