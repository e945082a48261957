"""What evaluation makes of predictions; `test_line` evaluates models."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipelines import evaluate
from pipelines.core.judgement import Judgement

CLASSES = ["G1", "G2"]
COMPOSITION = {"mean_error": 0.1}


def judged_cells(rng, split, groups):
    """A model that is right of three cells in four, on cells of `groups`, which begin with their class."""
    targets = np.array([CLASSES.index(each[:2]) for each in groups])
    right = rng.random(len(groups)) < 0.75
    sure = np.where(right == (targets == 0), 0.8, 0.2)
    probabilities = np.stack([sure, 1 - sure], 1).astype(np.float32)
    judged = Judgement(
        probabilities, np.ones((len(groups), 2), bool), np.full(len(groups), 0.5, np.float32),
        np.full(len(groups), "unsure"),
    )  # fmt: skip
    spec = SimpleNamespace(task="phase", classes=CLASSES, split=split, prior=[0.5, 0.5], simulated=False)
    facts = {"medium": "x", "day": "1", "run": "1"}
    manifest = pd.DataFrame({"cell_id": groups, "label": np.array(CLASSES)[targets], "group": groups, **facts})
    return evaluate.Tested(SimpleNamespace(spec=spec), np.arange(len(groups)), targets, judged, probabilities), manifest


@pytest.mark.parametrize(
    ("split", "groups", "resampled", "rough"),
    [
        ("grouped", 6, "groups", False),
        ("random", 6, "groups", False),
        ("random", 2, "groups", True),
        ("random", 1, "cells", True),  # one montage of a class: which of its figures are the montage's, nobody can say
    ],
)
def test_intervals_draw_groups_on_every_split_and_say_where_they_are_rough(
    rng, params, split, groups, resampled, rough
):
    names = [f"G1{i % 6}" for i in range(300)] + [f"G2{i % groups}" for i in range(300)]
    figures = evaluate.evaluate(*judged_cells(rng, split, names), {}, COMPOSITION, params)
    assert (figures["resampled"], figures["rough"]) == (resampled, rough)
    assert figures["groups"] == 6 + groups
