"""Gates around good single cells: what they cost, what they find, and what does not disturb them."""

import numpy as np
import pandas as pd
import pytest

from fatescope.data.cell_quality import QUALITY
from fatescope.data.quality_gate import MIN_CELLS, OPEN, REASONS, QualityGate, learn, reasons
from fatescope.data.quality_table import CellQuality
from fatescope.errors import DataError

AREA, ASPECT, GRADIENT, CONTACT, SATURATION = range(len(QUALITY))


def good_cells(rng, count=4000, focus=0.9):
    """Draw the features of good single cells."""
    features = np.zeros((count, len(QUALITY)))
    features[:, AREA] = 400 * np.exp(0.2 * rng.standard_normal(count))
    features[:, ASPECT] = np.clip(0.85 + 0.05 * rng.standard_normal(count), 0, 1)
    features[:, GRADIENT] = focus + 0.06 * rng.standard_normal(count)
    return features


def junk(rng, count):
    """Draw the features of junk, a fifth of each kind in the order of REASONS."""
    features = good_cells(rng, count)
    kind = np.arange(count) % len(REASONS)
    features[kind == 0, GRADIENT] *= 0.5
    features[kind == 1, AREA] *= 2
    features[kind == 1, ASPECT] *= 0.65
    features[kind == 2, AREA] *= 0.15
    features[kind == 3, CONTACT] = 0.35
    features[kind == 4, SATURATION] = 0.2
    return features, kind


def groups_of(count, runs=8):
    return np.char.add("run", (np.arange(count) % runs).astype(str))


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_good_cells_are_lost_as_often_as_was_allowed(rng, loss):
    cells = good_cells(rng, 20_000)
    gate = learn(cells, groups_of(len(cells)), loss)
    lost = gate.outside(good_cells(rng, 20_000)).any(1).mean()
    assert lost == pytest.approx(loss, rel=0.35)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3])
def test_junk_is_found_for_its_own_reason_whatever_its_share(rng, share):
    bad, kind = junk(rng, round(4000 * share / (1 - share)))
    cells = np.concatenate([good_cells(rng), bad])
    gate = learn(cells, groups_of(len(cells)), 0.02)
    outside = gate.outside(bad)
    found = [outside[kind == k, k].mean() for k in range(len(REASONS))]
    assert min(found) > 0.95, dict(zip(REASONS, found, strict=True))
    assert gate.outside(good_cells(rng)).any(1).mean() < 0.03


def test_a_run_with_another_focus_is_not_junk_as_a_whole(rng):
    usual, soft = good_cells(rng, 3500), good_cells(rng, 500, focus=0.7)
    groups = np.concatenate([groups_of(3500, 7), np.full(500, "soft")])
    gate = learn(np.concatenate([usual, soft]), groups, 0.02)
    assert gate.outside(soft)[:, REASONS.index("focus")].mean() < 0.02
    # Without its name it would be: most cells are sharper.
    together = learn(np.concatenate([usual, soft]), np.full(4000, "one"), 0.02)
    assert together.outside(soft)[:, REASONS.index("focus")].mean() > 0.1


def test_cells_that_touch_the_border_everywhere_are_not_all_clipped(rng):
    cells = good_cells(rng)
    cells[:, CONTACT] = 0.36 + 0.07 * rng.standard_normal(len(cells))  # crops as tight as those of malaria
    gate = learn(cells, groups_of(len(cells)), 0.02)
    assert gate.outside(cells)[:, REASONS.index("clipped")].mean() < 0.02


def test_few_cells_give_an_open_gate(rng):
    few = good_cells(rng, MIN_CELLS - 1)
    assert learn(few, groups_of(len(few)), 0.02) == OPEN
    assert learn(few[:0], groups_of(0), 0.02) == OPEN
    bad, _ = junk(rng, 50)
    assert not OPEN.outside(bad).any()


def test_cells_that_are_all_alike_are_inside(rng):
    alike = np.repeat(good_cells(rng, 1), 200, axis=0)
    gate = learn(alike, groups_of(200), 0.02)
    assert not gate.outside(alike).any()


def test_each_limit_has_its_reason():
    gate = OPEN.model_copy(update={"min_gradient_rms": 0.5, "min_area": 100.0, "max_border_contact": 0.1})
    cells = np.array([[400, 0.9, 0.9, 0, 0], [400, 0.9, 0.4, 0, 0], [50, 0.9, 0.4, 0.2, 0]], float)
    assert reasons(gate.outside(cells)) == [[], ["focus"], ["focus", "debris", "clipped"]]


def test_an_image_without_an_object_is_debris_and_nothing_else(rng):
    gate = learn(good_cells(rng), groups_of(4000), 0.02)
    assert reasons(gate.outside(np.zeros((1, len(QUALITY))))) == [["debris"]]


def test_the_table_of_cells_keeps_the_gate(rng, tmp_path):
    bad, kind = junk(rng, 500)
    gate = learn(good_cells(rng), groups_of(4000), 0.02)
    quality = CellQuality.of(pd.Series([f"c{i}" for i in range(500)]), bad, gate)
    quality.save(tmp_path / "quality.parquet")
    loaded = CellQuality.load(tmp_path / "quality.parquet")
    assert loaded.gate == gate == QualityGate.model_validate_json(gate.model_dump_json())
    np.testing.assert_array_equal(loaded.outside, gate.outside(bad).any(1))
    assert loaded.table.loc[kind == 4, "saturated"].all()


def test_another_file_is_no_table_of_quality(tmp_path):
    with pytest.raises(DataError, match=r"gone\.parquet: holds no quality of cells .*run the quality stage"):
        CellQuality.load(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match="run the quality stage"):
        CellQuality.load(tmp_path / "text.parquet")
