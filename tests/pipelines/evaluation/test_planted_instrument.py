"""What sits on the cell accuses the media that it follows, and nobody where it follows none."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from benchmarks.growth_and_audit import FOCUS, GAIN, NOISE, STRENGTHS, worst_verdicts
from fatescope import config
from tests.support.project import ROOT

SETTINGS = config.load(ROOT / "params.yaml")
BLAMED = {FOCUS: {"focus"}, NOISE: {"noise", "gain"}, GAIN: {"noise", "gain"}}
"""What follows the medium → the descriptions that may say so."""


def check(worst, case):
    planted, strength, _ = case
    accused = {name for name, verdict in worst.items() if verdict != "clean"}
    assert accused, case
    assert accused <= BLAMED[planted], case
    if planted == FOCUS:
        # It proves no shortcut, because the cell has a part in it.
        assert worst["focus"] == "suspect", case
    elif strength == 1:
        assert "shortcut" in worst.values(), case


@pytest.mark.slow
@pytest.mark.parametrize("planted", [FOCUS, NOISE])
def test_focus_and_noise_that_follow_the_medium_are_found(tmp_path, planted):
    case = (planted, 1.0, 0)
    check(worst_verdicts(tmp_path, SETTINGS, case), case)


@pytest.mark.slow
@pytest.mark.long
def test_each_is_found_at_several_strengths_and_seeds_without_stay_quiet(tmp_path):
    """Of more seeds `fatescope bench verdicts` says so."""
    quiet = [(FOCUS, 0.0, seed) for seed in range(4)]
    cases = quiet + [(planted, strength, 0) for planted, strength in STRENGTHS]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = dict(zip(cases, pool.map(partial(worst_verdicts, tmp_path, SETTINGS), cases), strict=True))
    for case, worst in found.items():
        if case in quiet:
            assert set(worst) == {"noise", "gain", "focus", "halo"}
            assert set(worst.values()) == {"clean"}, case
        else:
            check(worst, case)
