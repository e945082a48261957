from dataclasses import dataclass

import numpy as np
import pytest

from fatescope.errors import ParamsError
from pipelines.stages import train
from pipelines.training.examples import Examples


@dataclass
class Context:
    """A task with two schemes; under the second, the training cells are of one group."""

    params: object
    groups = np.repeat(np.arange(4), 16)
    classes = ("small", "large")
    schemes = ("grouped", "random")
    tracks = None

    def examples(self, scheme):
        rows = np.arange(len(self.groups))
        training = 48 if scheme == "grouped" else 16
        pixels = np.zeros((len(rows), 60, 80), np.uint16)
        return Examples(pixels, rows % 2, rows[:training], rows[training:], groups=self.groups)


def test_cells_of_one_group_under_a_later_scheme_are_told_before_the_first_fit(make_params, monkeypatch, tmp_path):
    params = make_params({"train.groups": "dro", "calibrate.folds": 2})
    monkeypatch.setattr(train, "plan_training", lambda *_, **__: pytest.fail("training has begun"))
    with pytest.raises(ParamsError, match=r"train.groups: dro .* are of one; set pooled"):
        train.train(Context(params), {"single": [params.train]}, tmp_path)
