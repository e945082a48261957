"""What the runner returns to a gateway for a batch of cells, and how it crosses the connection between them.

BentoML carries one array in binary form at little cost, so the parts of an output travel as the columns of one matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import (
    NotRequired,  # pydantic asks for these before Python 3.12
    Self,
)

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

from fatescope.inference.bundle import Bundle, Spec
from fatescope.inference.uncertainty import Assessment, Prediction, assess, softmax

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RunnerOutput:
    """The part of a prediction that verdicts and drift are computed from, for B cells."""

    logits: Floats
    """(B, K)"""
    distance: Floats
    """(B,) distance from the training cells; above 1 a cell is unlike them."""
    components: Floats
    """(B, C) coordinates of the embedding along its strongest directions."""

    @classmethod
    def from_prediction(cls, prediction: Prediction, bundle: Bundle) -> Self:
        """Return the output for a prediction of `bundle`."""
        return cls(prediction.logits, bundle.ood_distance(prediction), bundle.components(prediction))

    def pack(self) -> Floats:
        """Return the output as one (B, K + 1 + C) matrix."""
        return np.concatenate([self.logits, self.distance[:, None], self.components], axis=1, dtype=np.float32)

    @classmethod
    def unpack(cls, packed: Floats, classes: int) -> Self:
        """Return views of a (B, K + 1 + C) matrix that `pack` made, where K is `classes`."""
        return cls(packed[:, :classes], packed[:, classes], packed[:, classes + 1 :])

    @classmethod
    def concatenate(cls, outputs: Sequence[Self]) -> Self:
        """Return one or more outputs of the same model as one."""
        return cls(
            np.concatenate([output.logits for output in outputs]),
            np.concatenate([output.distance for output in outputs]),
            np.concatenate([output.components for output in outputs]),
        )

    def assess(self, spec: Spec) -> Assessment:
        """Return probabilities, conformal sets and verdicts under the thresholds of the model."""
        return assess(softmax(self.logits), self.distance, spec.conformal)


class Readiness(TypedDict):
    """The runner's reply to a request to prepare a version."""

    engine: str
    """Name of the engine that runs it; empty if none does."""
    error: str | None
    """Why the version cannot be served; None if it can."""
    absent: NotRequired[bool]
    """Whether that is because the runner does not have it; it follows the registry by itself, and may be late."""
