"""What the benchmark of robustness makes of answers, which are made up."""

import numpy as np
import pytest
import torch

from benchmarks.few_labels import other_instruments
from benchmarks.few_labels.instrument import PLAIN, Answers, rows_of
from benchmarks.few_labels.other_instruments import LIKE
from benchmarks.few_labels.sample_statistics import predict_by_sample
from pipelines.training import trainer
from tests.support.images import draw_cell


def test_options_are_compared_with_the_plain_one_cell_by_cell(rng):
    targets, groups = np.repeat([0, 1], 120), np.repeat(np.arange(12), 20)
    pixels = np.zeros((240, 1, 1), np.uint16)
    plain = {LIKE: (groups != 3) * 1.0, "focus": (rng.random(240) < 0.5) * 1.0}
    other = {LIKE: plain[LIKE] * 1.0, "focus": (rng.random(240) < 0.9) * 1.0}
    other[LIKE][groups == 3] = 0.5
    tested = other_instruments.Tested({LIKE: pixels, "focus": pixels}, targets, groups)
    first, second = rows_of("cells", Answers({PLAIN: plain, "other": other}, tested))
    assert first.values[LIKE] == pytest.approx(1 - 1 / 12)
    assert (first.values["worst group"], second.values["worst group"]) == (0, 0.5)
    assert second.values["like cells, more than plain"] == pytest.approx(0.5 / 12)
    assert 0.25 < second.values["shifts, from"] < 0.4 < second.values["shifts, to"] < 0.55
    assert not first.bars


def test_statistics_of_a_sample_are_given_back(make_params, rng):
    pixels = np.stack([draw_cell(rng, 60, 80) for _ in range(20)])
    network = trainer.build_network(make_params({"train.backbone": "compact"}).train, 2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    groups = np.repeat([0, 1, 2], [9, 9, 2])
    predicted = predict_by_sample(network, pixels, groups)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training
    # As a sample alone has it.
    assert np.array_equal(predict_by_sample(network, pixels[:9], groups[:9]), predicted[:9])
