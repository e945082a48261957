"""Multinomial logistic regression with a ridge penalty, in NumPy: fitted by L-BFGS (Nocedal 1980), convex."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MAX_STEPS, MEMORY, CONVERGED = 200, 8, 1e-4
"""Most steps, the steps that the curvature is learned from, and the largest slope at which the fit ends."""
_ARMIJO, _SHORTEST = 1e-4, 1e-10


@dataclass(frozen=True)
class Linear:
    """A linear model of K classes in D coordinates."""

    weights: Floats
    """(K, D)"""
    offsets: Floats
    """(K,)"""

    def logits(self, points: Floats) -> Floats:
        """Return the (n, K) logits of (n, D) points."""
        logits: Floats = points @ self.weights.T + self.offsets
        return logits


def fit(points: Floats, targets: Indices, classes: int, penalty: float, start: Linear | None = None) -> Linear:
    """Fit (N, D) points of the (N,) classes `targets`, all classes weighted equally, however many cells they have.

    `penalty` is the weight of half the sum of squared weights beside the mean loss, nats; offsets are free. `start` is
    where the search begins, such as the fit with another penalty.
    """
    weights = balanced(targets, classes)
    truth = np.eye(classes)[targets]
    shape = (classes, points.shape[1] + 1)

    def evaluate(flat: Floats) -> tuple[float, Floats]:
        model = flat.reshape(shape)
        logits = points @ model[:, :-1].T + model[:, -1]
        top = logits.max(1, keepdims=True)
        powers = np.exp(logits - top)
        total = powers.sum(1, keepdims=True)
        loss = weights @ (np.log(total[:, 0]) + top[:, 0] - logits[np.arange(len(targets)), targets])
        errors = weights[:, None] * (powers / total - truth)
        slope = np.empty(shape)
        slope[:, :-1] = errors.T @ points + penalty * model[:, :-1]
        slope[:, -1] = errors.sum(0)
        return float(loss + penalty / 2 * (model[:, :-1] ** 2).sum()), slope.ravel()

    first = np.zeros(shape) if start is None else np.column_stack([start.weights, start.offsets])
    found = _descend(evaluate, first.ravel()).reshape(shape)
    return Linear(found[:, :-1], found[:, -1])


def balanced(targets: Indices, classes: int) -> Floats:
    """Return (N,) weights that add up to one, and to the same for each class that has cells."""
    counts = np.bincount(targets, minlength=classes)
    weights: Floats = 1 / (counts[targets] * max(1, int((counts > 0).sum())))
    return weights


def log_probabilities(logits: Floats) -> Floats:
    """Return the (n, K) logarithms of the probabilities of (n, K) logits."""
    shifted = logits - logits.max(1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return logs


def _descend(evaluate: Callable[[Floats], tuple[float, Floats]], point: Floats) -> Floats:
    """Return where a convex function, which `evaluate` returns with its slope, is smallest."""
    value, slope = evaluate(point)
    steps: deque[tuple[Floats, Floats]] = deque(maxlen=MEMORY)
    for _ in range(MAX_STEPS):
        if np.abs(slope).max() < CONVERGED:
            break
        direction = -_curved(slope, steps)
        along = float(slope @ direction)
        length = 1.0 if steps else min(1.0, 1 / float(np.abs(slope).sum()))
        while True:
            moved = point + length * direction
            next_value, next_slope = evaluate(moved)
            if next_value <= value + _ARMIJO * length * along or length < _SHORTEST:
                break
            length /= 2
        if length < _SHORTEST:
            break
        change = next_slope - slope
        if float(change @ (moved - point)) > 0:
            steps.append((moved - point, change))
        point, value, slope = moved, next_value, next_slope
    return point


def _curved(slope: Floats, steps: deque[tuple[Floats, Floats]]) -> Floats:
    """Return the slope divided by the curvature that the last steps showed (two-loop recursion)."""
    result, shares = slope.copy(), []
    for step, change in reversed(steps):
        share = float(step @ result) / float(change @ step)
        shares.append(share)
        result -= share * change
    if steps:
        step, change = steps[-1]
        result *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(steps, reversed(shares), strict=True):
        result += (share - float(change @ result) / float(change @ step)) * step
    return result
