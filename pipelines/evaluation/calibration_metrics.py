"""How well the probabilities of a classifier agree with frequencies, and how far its caution can be relied on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.inference.uncertainty import SURE, UNLIKE, UNSURE, Assessment, coarse_calls
from pipelines.evaluation.trust_report import Calibration, Calls, CallShare, Trust

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
MAX_POINTS = 200
"""Points of a risk-coverage curve."""
CELLS_PER_BIN = 30
"""Least cells in a bin of the debiased calibration error: with fewer, chance would decide what it is."""


def squared_errors(targets: Indices, probabilities: Floats) -> Floats:
    """Return the (n,) squared errors whose mean is the Brier score, 0 to 2."""
    differences = probabilities.astype(np.float64).copy()
    differences[np.arange(len(targets)), targets] -= 1
    errors: Floats = (differences**2).sum(1)
    return errors


def class_weights(targets: Indices, prior: Floats) -> Floats:
    """Return (n,) weights of mean 1 under which the classes have the shares `prior`.

    Probabilities are calibrated for those shares; among cells of another mixture they cannot be, and need not be.
    """
    counts = np.bincount(targets, minlength=len(prior))
    weights = (prior / np.maximum(counts, 1))[targets]
    scaled: Floats = weights / weights.mean()
    return scaled


def reliability_diagram(targets: Indices, probabilities: Floats, bins: int, weights: Floats) -> pd.DataFrame:
    """Return `confidence`, `accuracy` and `cells` of bins with equal numbers of cells.

    Cells count by (n,) `weights`, and `cells` is the sum of the weights.
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == targets
    order = np.argsort(confidence, kind="stable")
    rows = []
    for cells in np.array_split(order, bins):
        if len(cells):
            means = [np.average(values[cells], weights=weights[cells]) for values in (confidence, correct)]
            rows.append((*means, weights[cells].sum()))
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "cells"])


def calibration(targets: Indices, probabilities: Floats, bins: int, weights: Floats) -> Calibration:
    """Return the expected calibration error, Brier score and log loss; cells count by (n,) `weights`."""
    diagram = reliability_diagram(targets, probabilities, bins, weights)
    gap = (diagram["confidence"] - diagram["accuracy"]).abs()
    likelihood = np.maximum(probabilities[np.arange(len(targets)), targets], 1e-12)
    return Calibration(
        ece=float((gap * diagram["cells"]).sum() / diagram["cells"].sum()),
        debiased=max(debiased_error(targets, probabilities, bins, weights), 0.0) ** 0.5,
        brier=float(np.average(squared_errors(targets, probabilities), weights=weights)),
        loss=float(np.average(-np.log(likelihood), weights=weights)),
    )


def debiased_error(targets: Indices, probabilities: Floats, bins: int, weights: Floats) -> float:
    """Return the mean squared difference of confidence and accuracy over bins, less what chance adds to it.

    Unbiased (Kumar, Liang and Ma 2019), and so negative at times; cells count by (n,) `weights`. An error that is not
    corrected grows with the number of bins and with few cells, also where calibration is perfect. There are up to
    `bins`, each of CELLS_PER_BIN cells or more.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    total = 0.0
    for cells in np.array_split(
        np.argsort(confidence, kind="stable"), max(1, min(bins, len(targets) // CELLS_PER_BIN))
    ):
        share = weights[cells] / weights[cells].sum()
        gap = float((share * (confidence[cells] - right[cells])).sum())
        chance = float((share**2 * (right[cells] - (share * right[cells]).sum()) ** 2).sum())
        effective = 1 / float((share**2).sum())
        total += weights[cells].sum() / weights.sum() * (gap**2 - chance * effective / max(effective - 1, 1e-9))
    return float(total)


def risk_coverage(targets: Indices, probabilities: Floats) -> pd.DataFrame:
    """Return the error rate (`risk`) among the most confident share (`coverage`) of cells (El-Yaniv, Wiener 2010)."""
    order = np.argsort(-probabilities.max(1), kind="stable")
    wrong = (probabilities.argmax(1) != targets)[order]
    accepted = np.arange(1, len(wrong) + 1)
    curve = pd.DataFrame({"coverage": accepted / len(wrong), "risk": np.cumsum(wrong) / accepted})
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, min(MAX_POINTS, len(curve))).astype(int))]


def trust(
    targets: Indices,
    assessment: Assessment,
    classes: list[str],
    hierarchy: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, float] | None,
) -> Trust:
    """Return how the conformal sets and verdicts of `assessment` hold on cells of the (n,) classes `targets`.

    `hierarchy` and the `thresholds` of its coarse classes are those of the model.
    """
    covered = assessment.sets[np.arange(len(targets)), targets]
    correct, sure = assessment.probabilities.argmax(1) == targets, assessment.verdicts == SURE
    return Trust(
        coverage=float(covered.mean()),
        coverage_by_class={
            name: float(covered[targets == i].mean()) for i, name in enumerate(classes) if (targets == i).any()
        },
        set_size=float(assessment.sets.sum(1).mean()),
        unlike=float((assessment.distance > 1).mean()),
        unsure=float((assessment.verdicts == UNSURE).mean()),
        accuracy_of_sure=float(correct[sure].mean()) if sure.any() else None,
        calls=calls(targets, assessment, classes, hierarchy, thresholds) if hierarchy else None,
    )


def calls(
    targets: Indices,
    assessment: Assessment,
    classes: list[str],
    hierarchy: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, float] | None,
) -> Calls:
    """Return how many cells of the (n,) classes `targets` are answered finely, coarsely or not, and how often rightly.

    `hierarchy` is coarse class → classes, and `thresholds` coarse class → probability; see `coarse_calls`.
    """
    coarse_of = {member: name for name, members in hierarchy.items() for member in members}
    answers = coarse_calls(assessment, classes, hierarchy, thresholds)
    right = np.array(
        [
            call is not None and call.label == coarse_of.get(classes[target])
            for call, target in zip(answers, targets.tolist(), strict=True)
        ],
        bool,
    )
    called = np.array([call is not None for call in answers], bool)
    unsure = assessment.verdicts == UNSURE

    def share(cells: npt.NDArray[np.bool_], correct: npt.NDArray[np.bool_] | None = None) -> CallShare:
        accuracy = float(correct[cells].mean()) if correct is not None and cells.any() else None
        return CallShare(share=float(cells.mean()), accuracy=accuracy)

    return Calls(
        fine=share(assessment.verdicts == SURE, assessment.probabilities.argmax(1) == targets),
        coarse=share(unsure & called, right),
        unsure=share(unsure & ~called),
        unlike=share(assessment.verdicts == UNLIKE),
    )
