"""What is compared of the cells of a table: features, embedding, predicted class, verdict and light, as arrays."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from monitoring.lamps import Lamps
from monitoring.novelty import describe
from monitoring.statistics import KERNEL_FEATURES, VERDICT_RATES, CellFeatures, Floats, Rows, compared_columns


@dataclass(frozen=True)
class Coding:
    """How the tables of one model are read."""

    features: list[str]
    """Columns whose distributions are compared."""
    components: list[str]
    """Columns of the embedding."""
    probabilities: list[str]
    """Columns of the classes."""
    frequencies: Floats
    """(C, KERNEL_FEATURES) of the random Fourier features."""
    phases: Floats
    """(KERNEL_FEATURES,)"""
    lamps: Lamps

    @classmethod
    def of(cls, reference: pd.DataFrame, groups: list[Rows], seed: int) -> Self:
        """Return the coding for the model with this reference, whose `groups` are these rows."""
        components = [name for name in reference.columns if name[0] == "e" and name[1:].isdecimal()]
        probabilities = [name for name in reference.columns if name.startswith("p_")]
        rng = np.random.default_rng(seed)
        embedding = reference[components].to_numpy(float)
        frequencies = rng.normal(0, 1 / _median_distance(embedding, rng), (embedding.shape[1], KERNEL_FEATURES))
        phases = rng.uniform(0, 2 * np.pi, KERNEL_FEATURES)
        features = compared_columns(reference.columns)
        lamps = Lamps.of(reference[features].to_numpy(float), groups)
        return cls(features, components, probabilities, frequencies, phases, lamps)

    def read(self, table: pd.DataFrame) -> CellFeatures:
        """Return the cells of a reference or of a window."""
        components = table[self.components].to_numpy(float)
        kernel = np.cos(components @ self.frequencies + self.phases) * np.sqrt(2 / KERNEL_FEATURES)
        verdicts = table["verdict"].to_numpy(str)
        features = table[self.features].to_numpy(float)
        return CellFeatures(
            features,
            kernel,
            describe(components),
            np.eye(len(self.probabilities))[table[self.probabilities].to_numpy().argmax(1)],
            np.stack([verdicts == verdict for verdict in VERDICT_RATES.values()], axis=1).astype(float),
            self.lamps.embed(features),
            tuple(self.features),
        )


def _median_distance(embedding: Floats, rng: np.random.Generator) -> float:
    """Return the median distance between pairs of (n, C) embeddings, which is the bandwidth of the kernel."""
    rows = embedding[rng.choice(len(embedding), min(len(embedding), 500), replace=False)]
    pairs = rng.integers(0, len(rows), (2, 2000))
    return float(np.median(np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1))) or 1.0
