"""How cells are spread over groups, and what the instrument of a run knows of the medium."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fatescope.config import load
from fatescope.errors import ParamsError
from pipelines.simulation.acquisition_groups import draw_acquisition, groups, plant
from pipelines.simulation.phenotypes import PAPER
from tests.support.simulation import SMALL

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("cells", [1, 23, 24, 52, 3000])
def test_media_of_one_weight_have_as_many_cells_as_before_there_were_weights(cells):
    keys = [(m, d, r) for d in SMALL.days for r in range(1, SMALL.runs + 1) for m in PAPER]
    share, rest = divmod(cells, len(keys))
    before = [(*key, share + (i < rest)) for i, key in enumerate(keys) if share + (i < rest)]
    for weight in (1.0, 0.7):
        spread = SMALL.model_copy(update={"cells": cells, "media": dict.fromkeys(PAPER, weight)})
        assert [(g.medium, g.day, g.run, g.cells) for g in groups(spread)] == before


def test_rare_media_have_fewer_cells():
    rare = SMALL.model_copy(update={"cells": 1001, "media": {"a": 6.0, "p": 3.0, "f": 1.0}})
    counts = Counter[str]()
    for group in groups(rare):
        counts[group.medium] += group.cells
    assert sum(counts.values()) == 1001
    assert [round(counts[medium] / 1001, 2) for medium in ("a", "p", "f")] == [0.6, 0.3, 0.1]
    with pytest.raises(ParamsError, match=r"\['x'\] cannot be drawn"):
        groups(SMALL.model_copy(update={"media": {"a": 1.0, "x": 1.0}}))


def test_the_default_has_3000_cells_in_48_groups():
    cells = Counter()
    default = groups(load(ROOT / "params.yaml").simulate)
    for group in default:
        cells[group.medium] += group.cells
    assert len(default) == 48
    assert set(cells.values()) == {750}


def test_without_a_shortcut_the_lamp_does_not_know_the_medium():
    lamps = [[draw_acquisition(np.random.default_rng(i), place, 0.0) for i in range(5)] for place in (0, 0.5, 1)]
    assert lamps[0] == lamps[1] == lamps[2]
    assert len({run.lamp for run in lamps[0]}) == 5


@pytest.mark.parametrize(
    ("shift", "fact", "span"),
    [("focus_shift", "focus", 0.8), ("noise_shift", "noise", 3.0), ("gain_shift", "gain", 0.5)],
)
def test_what_is_planted_follows_the_medium_and_moves_nothing_else(shift, fact, span):
    run, places = draw_acquisition(np.random.default_rng(0), 0.0, 0.0), (0, 0.3, 0.6, 1)
    assert all(plant(run, place, SMALL) == run for place in places)
    for strength in (0.5, 1.0):
        planted = [plant(run, place, SMALL.model_copy(update={shift: strength})) for place in places]
        values = [getattr(one, fact) for one in planted]
        assert values == sorted(values)
        reach = values[-1] - values[0]
        assert reach == pytest.approx(strength * span * (run.gain if fact == "gain" else 1))
        assert {replace(one, **{fact: 0.0}) for one in planted} == {replace(run, **{fact: 0.0})}
