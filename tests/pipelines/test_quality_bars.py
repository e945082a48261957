"""The bars of quality control on simulated cells of which 20 % are junk; `fatescope bench quality` has five seeds."""

import numpy as np
import pytest

from benchmarks import quality
from fatescope import config
from fatescope.data import quality_gate
from tests.support.project import ROOT

pytestmark = pytest.mark.slow

SETTINGS = config.load(ROOT / "params.yaml")


def draw(seed):
    changes = {"cells": 1500, "marker_channels": 0, "darkfield": False, "junk": quality.JUNK, "seed": seed}
    return quality.draw(SETTINGS.simulate.model_copy(update=changes), SETTINGS.ingest.canvas)


@pytest.fixture(scope="module")
def learned():
    """Cells with junk, other ones, and the gate that is learned from the first."""
    train = draw(1)
    return train, draw(1001), quality_gate.learn(train.quality, train.groups, SETTINGS.quality.loss)


def test_junk_is_found_and_good_cells_are_spared(learned):
    _, cells, gate = learned
    counts = quality.count(cells, quality.is_outside(gate, cells))
    shares = {name: outside / total for name, (total, outside) in counts.items()}
    assert shares["planted: all"] >= 0.95
    assert shares["good cells"] <= 0.02
    assert min(shares[f"planted: {kind}"] for kind in quality_gate.REASONS) > 0.9


def test_junk_in_a_culture_changes_its_composition_only_where_it_is_not_gated(learned):
    train, cells, gate = learned
    outside, cultures = quality.is_outside(gate, cells), quality.mix(cells, 100, np.random.default_rng(0))
    classes = np.unique(cells.labels)
    truth = np.array([[(cells.labels[one.cells] == name).mean() for name in classes] for one in cultures])
    without = [one.cells for one in cultures]
    with_junk = [np.concatenate([one.cells, one.junk]) for one in cultures]

    def error(rows, gated):
        seen = [one[~outside[one]] if gated else one for one in rows]
        return quality.compose(train, ~train.planted, cells, seen, truth).mean()

    assert error(with_junk, gated=True) <= error(without, gated=True) + 0.002
    assert error(with_junk, gated=False) > error(without, gated=False) + 0.01
