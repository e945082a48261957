"""The head that a few labels teach: linear in the embedding of a bundle, in simple features of the cell, or in both.

Which of the three, and how strongly it is held back, is chosen by cross-validation (`choose`), so that a network that
was trained on quite other cells does not do worse than simple features of the same labels.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from fatescope.teaching.folds import Folds
from fatescope.teaching.regression import Linear, balanced, fit, log_probabilities

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Design = Literal["embedding", "features", "both"]

DESIGNS: tuple[Design, ...] = get_args(Design)
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Penalties that are tried, the strongest first: each fit starts from the one before."""
DIRECTIONS = 100
"""Most principal directions of the embedding that a head is fitted in."""
CLIP = 4.0
"""Standard deviations from the mean beyond which a feature is taken to be there: some are ratios without bound."""
SURELY = 2.0
"""Standard errors by which a head that reads the network has to be better than one that does not."""
_NO_SPREAD = 1e-10
"""Variance along a direction, relative to the largest, that is rounding alone."""
_LEAST_SPREAD = 0.05
"""Of a coordinate, relative to their median, below which it is not stretched to the spread of the others."""


@dataclass(frozen=True)
class Space:
    """The coordinates that heads are fitted in; their squares add up to about one in each design."""

    centre: Floats
    """(C,) of the embedding."""
    directions: Floats
    """(C, r) from the centred embedding to its coordinates."""
    middle: Floats
    """(F,) of the features."""
    scale: Floats
    """(F,) their standard deviations."""

    @classmethod
    def of(cls, embedding: Floats, features: Floats) -> "Space":
        """Return the space of (N, C) embeddings and (N, F) features."""
        centre, spread = embedding.mean(0, dtype=np.float64), embedding.std(0, dtype=np.float64)
        stretch = np.maximum(spread, max(_LEAST_SPREAD * float(np.median(spread)), 1e-9))
        standard = (embedding - centre) / stretch
        directions = _principal(standard) / stretch[:, None] / np.sqrt(embedding.shape[1])
        scale = np.maximum(features.std(0, dtype=np.float64), 1e-9)
        return cls(centre, directions, features.mean(0, dtype=np.float64), scale)

    def points(self, embedding: Floats, features: Floats, design: Design) -> npt.NDArray[np.float64]:
        """Return the (n, D) coordinates of cells in a design."""
        parts = []
        if design != "features":
            parts.append((embedding - self.centre) @ self.directions)
        if design != "embedding":
            clipped = np.clip((features - self.middle) / self.scale, -CLIP, CLIP)
            parts.append(clipped / np.sqrt(features.shape[1]))
        points: npt.NDArray[np.float64] = np.concatenate(parts, axis=1, dtype=np.float64)
        return points


def _principal(standard: Floats) -> Floats:
    """Return the (C, r) principal directions of centred (N, C) embeddings, the most important first."""
    # By the squares of the smaller side, which takes a tenth of the time of a singular value decomposition.
    few = len(standard) <= standard.shape[1]
    values, vectors = np.linalg.eigh(standard @ standard.T if few else standard.T @ standard)
    order = np.argsort(-values)[:DIRECTIONS]
    order = order[values[order] > _NO_SPREAD * values.max()]
    kept: Floats = vectors[:, order]
    return standard.T @ kept / np.sqrt(values[order]) if few else kept


@dataclass(frozen=True)
class Head:
    """A head as the graph of a bundle has it."""

    design: Design
    embedding_weights: Floats
    """(K, C) of the embedding as the network gives it."""
    feature_weights: Floats
    """(K, F) of the features less `middle`, divided by `scale` and clipped at CLIP."""
    middle: Floats
    scale: Floats
    offsets: Floats
    """(K,)"""

    @classmethod
    def of(cls, linear: Linear, design: Design, space: Space) -> "Head":
        """Return a head that was fitted in a design of `space`."""
        classes, width = len(linear.offsets), len(space.middle)
        rank = 0 if design == "features" else space.directions.shape[1]
        of_embedding = linear.weights[:, :rank] @ space.directions.T if rank else np.zeros((classes, len(space.centre)))
        of_features = np.zeros((classes, width)) if design == "embedding" else linear.weights[:, rank:] / np.sqrt(width)
        return cls(
            design, of_embedding, of_features, space.middle, space.scale, linear.offsets - of_embedding @ space.centre
        )

    def cooled(self, temperature: float) -> "Head":
        """Return the head whose logits are those of this one, divided by a temperature."""
        return replace(
            self,
            embedding_weights=self.embedding_weights / temperature,
            feature_weights=self.feature_weights / temperature,
            offsets=self.offsets / temperature,
        )

    def logits(self, embedding: Floats, features: Floats) -> npt.NDArray[np.float32]:
        """Return the (n, K) logits of cells."""
        clipped = np.clip((features - self.middle) / self.scale, -CLIP, CLIP)
        logits = embedding @ self.embedding_weights.T + clipped @ self.feature_weights.T + self.offsets
        return np.asarray(logits, np.float32)


@dataclass(frozen=True)
class Choice:
    """A design and a penalty, with the loss by which it was chosen."""

    design: Design
    penalty: float
    loss: float
    """Mean negative log-likelihood of the cells that were left out, nats, all classes weighted equally."""


def choose(
    points: dict[Design, npt.NDArray[np.float64]], targets: Indices, classes: int, folds: Folds, rows: Indices
) -> list[Choice]:
    """Return the best penalty of each design by cross-validation among `rows`, the design to take first.

    That is features of the cell, unless another design is better by SURELY standard errors of the difference, cell by
    cell: with few labels, chance alone would often prefer a network that has nothing to say of these cells.
    `points` are the (N, D) coordinates of all cells in each design; `folds` are those of `rows`, in their order.
    """
    weights = balanced(targets[rows], classes)
    found, of_cells = list[Choice](), dict[Design, npt.NDArray[np.float64]]()
    for design, of_all in points.items():
        logs = np.zeros((len(PENALTIES), len(rows)))
        for fold in folds.names:
            held = folds.place == fold
            train, test = rows[~held], rows[held]
            start = None
            for number, penalty in enumerate(PENALTIES):
                start = fit(of_all[train], targets[train], classes, penalty, start)
                log = log_probabilities(start.logits(of_all[test]))
                logs[number, held] = log[np.arange(len(test)), targets[test]]
        losses = -logs @ weights
        best = int(np.argmin(losses))
        found.append(Choice(design, PENALTIES[best], float(losses[best])))
        of_cells[design] = logs[best]
    return sorted(found, key=lambda choice: (not _may_lead(choice.design, of_cells, weights), choice.loss))


def _may_lead(design: Design, logs: dict[Design, npt.NDArray[np.float64]], weights: npt.NDArray[np.float64]) -> bool:
    """Return whether a design is features of the cell, or surely better than these."""
    if design == "features" or "features" not in logs:
        return True
    gains = logs[design] - logs["features"]
    gain = float(weights @ gains)
    return gain > SURELY * float(np.sqrt((weights**2 * (gains - gain) ** 2).sum()))
