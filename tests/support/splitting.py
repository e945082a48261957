"""Cells to divide into training, validation and test."""

import numpy as np
import pandas as pd

BALANCED = {"a": [f"a{i}" for i in range(9)], "o": [f"o{i}" for i in range(9)]}


def table(groups_of, size=20):
    """Return labels and groups of cells: class → names of its groups."""
    rows = [(label, group) for label, groups in groups_of.items() for group in groups for _ in range(size)]
    return (np.array(column) for column in zip(*rows, strict=True))


def hashes(count, seed=0):
    return np.random.default_rng(seed).integers(-(2**63), 2**63, count)


def shares(labels, assignment):
    """Return the share of each split, by class."""
    return pd.crosstab(labels, assignment, normalize="index")
