"""The comparison of two versions, and what it says where there are too few groups for an interval."""

import numpy as np
import pandas as pd
import pytest

from fatescope.data.dataset import CellDataset
from pipelines.registry.comparison import compare
from pipelines.registry.paired import PairedPredictions
from pipelines.reporting import comparison_page


def versions(rng, groups):
    """Return predictions of two models on so many groups of two classes, and the cells."""
    targets = np.arange(400) % 2
    names = np.array([f"{'ab'[t]}{i // 2 % groups}" for i, t in enumerate(targets)])
    before, after = (np.where(rng.random(400) < accuracy, targets, 1 - targets) for accuracy in (0.7, 0.9))
    paired = PairedPredictions(
        np.arange(400), ["a", "b"], targets, names, np.eye(2)[before], np.eye(2)[after], 1.0, 1.0
    )
    manifest = pd.DataFrame({"cell_id": [f"cell{i}" for i in range(400)]})
    return paired, CellDataset(manifest, np.zeros((400, 4, 4), np.uint16))


def test_differences_have_intervals_from_three_groups_on(rng):
    comparison, changed = compare("binary", "1", "2", *versions(rng, 4))
    gain = comparison.figures["balanced_accuracy"]
    assert gain.difference == pytest.approx(gain.b - gain.a) == pytest.approx(0.2, abs=0.08)
    assert gain.low < gain.difference < gain.high
    assert comparison.no_interval is None
    assert f"(95 % interval {gain.low:+.3f} to {gain.high:+.3f})" in comparison.describe()
    assert "no interval" not in comparison_page.render(comparison, {})
    assert len(changed) == sum(comparison.changed.values())


@pytest.mark.parametrize(("groups", "noun"), [(1, "1 acquisition group"), (2, "2 acquisition groups")])
def test_below_that_the_reason_stands_in_their_place(rng, groups, noun):
    comparison, _ = compare("binary", "1", "2", *versions(rng, groups))
    assert {(change.low, change.high) for change in comparison.figures.values()} == {(None, None)}
    reason = f"{noun} of class a; three are needed"
    assert comparison.no_interval == reason
    text = comparison.describe()
    assert text.count("(no interval)") == len(comparison.figures)
    assert f"no interval: {reason}" in text
    assert f"No interval: {reason}." in comparison_page.render(comparison, {})
