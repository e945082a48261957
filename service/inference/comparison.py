"""Compare samples by what was classified of them: class shares by replicate, and how conditions differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fatescope.inference import bundle, comparison_report, mean_composition, uncertainty
from fatescope.inference.comparison import Sample
from fatescope.inference.comparison_report import Curve, Difference, Question
from fatescope.inference.composition import Composition
from fatescope.inference.mean_composition import MeanComposition
from fatescope.inference.spec import Spec

Floats = npt.NDArray[np.floating]
MAX_REFERENCE = 2000
"""Most reference cells that mean probabilities are learned from: more would be slow with many samples."""
_Z = 1.96


@dataclass(frozen=True)
class Roles:
    """What a sample is in the experiment."""

    sample: str
    condition: str
    replicate: str | None
    day: float | None
    dose: float | None
    donor: str | None


@dataclass(frozen=True)
class Choices:
    """How a comparison is told."""

    reference: str | None = None
    """One of the conditions; None: the first."""
    dose_unit: str = ""
    """What sentences name; empty where it is not known."""


@dataclass(frozen=True)
class Compared:
    """What is said of samples together."""

    reference: str
    compositions: list[Composition]
    """Of each sample."""
    differences: list[Difference]
    curves: list[Curve]


def compare(
    roles: Sequence[Roles],
    means: Floats,
    cells: Sequence[int],
    shares: Sequence[Floats | None],
    spec: Spec,
    folder: Path,
    choices: Choices,
) -> Compared:
    """Compare n samples by the (n, K) mean probabilities of their `cells` under the model of `spec`, in `folder`.

    `shares` are the (K,) class shares that were estimated of a sample from its cells, None where they are to be
    computed.
    """
    learned = learn(folder, tuple(spec.classes), tuple(spec.prior))
    error = np.array(spec.composition_error)
    samples, compositions = [], []
    for role, mean, count, known in zip(roles, means, cells, shares, strict=True):
        shown = learned.shares(mean) if known is None else known
        chance = learned.chance(shown, count)
        half = _Z * np.sqrt(chance + np.diag(error))
        compositions.append(Composition(shown, np.clip(shown - half, 0, 1), np.clip(shown + half, 0, 1)))
        exact = learned.uncut(shown, mean, chance)
        samples.append(
            Sample(
                role.sample,
                role.condition,
                exact,
                chance,
                role.replicate,
                role.day,
                role.dose,
                role.donor,
                shown,
            )
        )
    question = Question(spec.classes, error, choices.reference or samples[0].condition, choices.dose_unit)
    found = comparison_report.differences(samples, question)
    return Compared(question.reference, compositions, found, comparison_report.curves(samples, question, found))


@lru_cache(maxsize=8)
def learn(folder: Path, classes: tuple[str, ...], prior: tuple[float, ...]) -> MeanComposition:
    """Return what the reference cells of a bundle say of mean probabilities."""
    columns = [f"p_{name}" for name in classes]
    cells = pd.read_parquet(folder / bundle.REFERENCE, columns=[*columns, "seen", "verdict"])
    cells = cells[cells["verdict"] != uncertainty.UNLIKE]
    # A model is surer of the cells that it was trained on.
    unseen = cells[~cells["seen"].astype(bool)]
    chosen = (unseen if len(unseen) else cells)[columns].to_numpy(np.float64)
    picked = np.linspace(0, len(chosen) - 1, min(len(chosen), MAX_REFERENCE)).astype(int)
    return mean_composition.learn(chosen[picked], np.array(prior))
