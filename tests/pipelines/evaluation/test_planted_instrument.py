"""What sits on the cell accuses the media that it follows, and nobody where it follows none."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import pytest

from fatescope import config
from fatescope.data.dataset import load as load_cells
from pipelines.commands import simulate
from pipelines.evaluation.audit_report import STAGES, VERDICTS
from pipelines.evaluation.audit_sample import describe_cells
from pipelines.evaluation.group_audit import judge_groups
from pipelines.stages import ingest
from tests.support.params import write_params

FOCUS, NOISE, GAIN = "simulate.focus_shift", "simulate.noise_shift", "simulate.gain_shift"
BLAMED = {FOCUS: {"focus"}, NOISE: {"noise", "gain"}, GAIN: {"noise", "gain"}}
"""What follows the medium → the descriptions that may say so."""
FOUND = [(FOCUS, 0.75), (FOCUS, 1.0), (NOISE, 0.75), (NOISE, 1.0), (GAIN, 1.0)]
"""The strengths at which it is always found; docs/explanation/audit-and-splits.md says so."""


def worst_verdicts(folder, case):
    """Return description → the worst verdict on any pair; a case is what is planted, its strength, and a seed."""
    planted, strength, seed = case
    folder = folder / f"{planted}_{strength}_{seed}"
    folder.mkdir()
    changes = {
        "simulate.cells": 432,
        "simulate.runs": 4,
        "simulate.marker_channels": 0,
        "simulate.seed": seed,
        planted: strength,
        "ingest.workers": 1,
        "train.threads": 1,
    }
    path = write_params(folder, changes)
    settings = config.load(path)
    simulate.simulate(settings.simulate, folder / "data", workers=1)
    ingest.main(path, folder / "data", folder / "cells")
    cells = load_cells(folder / "cells")
    sample = describe_cells(cells, np.arange(len(cells.manifest)), {}, settings.train.normalisation)
    worst = {}
    for pair in combinations(sample.classes.tolist(), 2):
        for stage in STAGES:
            for evidence in judge_groups(sample, stage, pair, settings.audit):
                # Contrast is of the cell, and normalisation divides by it: as in a verdict, the raw pixels decide.
                if stage == "raw" or evidence.description == "focus":
                    known = worst.get(evidence.description, "clean")
                    worst[evidence.description] = max(known, evidence.verdict, key=VERDICTS.index)
    return worst


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
    check(worst_verdicts(tmp_path, case), case)


@pytest.mark.slow
@pytest.mark.long
def test_each_is_found_at_several_strengths_and_ten_seeds_without_stay_quiet(tmp_path):
    quiet = [(FOCUS, 0.0, seed) for seed in range(10)]
    cases = quiet + [(planted, strength, seed) for planted, strength in FOUND for seed in (0, 1)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = dict(zip(cases, pool.map(partial(worst_verdicts, tmp_path), cases), strict=True))
    for case, worst in found.items():
        if case in quiet:
            assert set(worst) == {"noise", "gain", "focus", "halo"}
            assert set(worst.values()) == {"clean"}, case
        else:
            check(worst, case)
