"""Sections of `benchmarks.verdicts`: whether splits stay when data grow, and whom the audit accuses."""

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.tables import Row
from fatescope import config
from fatescope.config import Params
from fatescope.data.dataset import load as load_cells
from pipelines.commands import simulate
from pipelines.evaluation.audit_report import STAGES, VERDICTS
from pipelines.evaluation.audit_sample import describe_cells
from pipelines.evaluation.group_audit import judge_groups
from pipelines.splitting.by_group import deal_groups
from pipelines.stages import ingest

SEED = 0
GROUPS = 9
"""Of each class, before the data grow."""
CLASSES = (2, 4)
ADDED = (1, 3, 9)
"""Groups of each class that come later."""
DRAWS = 1000
SHARE = 0.25
"""Of the groups that the test should get, as in `params.yaml`."""
CELLS = 432
"""Simulated for the audit: nine a group, the least that laboratories have."""
FOCUS, NOISE, GAIN = "focus_shift", "noise_shift", "gain_shift"
STRENGTHS = ((FOCUS, 0.75), (FOCUS, 1.0), (NOISE, 0.75), (NOISE, 1.0), (GAIN, 1.0))
"""What follows the medium, and the strengths at which it has to be found."""
FOUND_SEEDS, QUIET_SEEDS = 4, 10

Case = tuple[str, float, int]
"""A field of the section `simulate`, its strength, and a seed."""


def grow(draws: int = DRAWS, added: tuple[int, ...] = ADDED) -> list[Row]:
    """Return what becomes of the test groups when groups with names of any order are added to each class."""
    settings = config.load(Path("params.yaml")).split.model_copy(update={"test_share": SHARE})
    rows = list[Row]()
    for classes in CLASSES:
        for more in added:
            rng = np.random.default_rng(SEED)
            moved, comparable, shares = [], [], []
            for draw in range(draws):
                count = classes * (GROUPS + more)
                names = np.array([f"{draw}-{place:03}" for place in rng.permutation(count)])
                labels = np.array([f"class{place % classes}" for place in range(count)])
                known, params = classes * GROUPS, settings.model_copy(update={"seed": draw})
                before = deal_groups(labels[:known], names[:known], names[:known].tolist(), params)
                after = deal_groups(labels, names, names.tolist(), params)
                moved.append(np.mean([before[name] != after[name] for name in before]))
                # The groups of both tests, which neither model was fitted on.
                kept = {labels[i] for i in range(known) if before[names[i]] == after[names[i]] == "test"}
                comparable.append(len(kept) == classes)
                shares.append(np.mean([side == "test" for side in after.values()]))
            rows.append(
                Row(
                    f"{classes} classes, {GROUPS} groups a class and {more} more",
                    {
                        "groups moved": float(np.mean(moved)),
                        "comparable": float(np.mean(comparable)),
                        "test share": float(np.mean(shares)),
                        "furthest": float(np.abs(np.array(shares) - SHARE).max()),
                    },
                    {"groups moved": "<= 0", "comparable": ">= 1"},
                )
            )
    return rows


def worst_verdicts(folder: Path, settings: Params, case: Case) -> dict[str, str]:
    """Simulate cells in `folder` and audit what sits on them; return description → its worst verdict on any pair."""
    planted, strength, seed = case
    folder = folder / f"{planted}_{strength}_{seed}"
    folder.mkdir()
    content = json.loads(settings.model_dump_json(by_alias=True))
    content["simulate"] |= {"cells": CELLS, "marker_channels": 0, "darkfield": False, "seed": seed, planted: strength}
    content["ingest"]["workers"] = content["train"]["threads"] = 1
    path = folder / "params.yaml"
    path.write_text(json.dumps(content))
    settings = config.load(path)
    simulate.simulate(settings.simulate, folder / "data", workers=1)
    ingest.main(path, folder / "data", folder / "cells")
    cells = load_cells(folder / "cells")
    sample = describe_cells(cells, np.arange(len(cells.manifest)), {}, settings.train.normalisation)
    worst = dict[str, str]()
    for pair in combinations(sample.classes.tolist(), 2):
        for stage in STAGES:
            for evidence in judge_groups(sample, stage, pair, settings.audit):
                # Contrast is of the cell, and normalisation divides by it: as in a verdict, the raw pixels decide.
                if stage == "raw" or evidence.description == "focus":
                    known = worst.get(evidence.description, "clean")
                    worst[evidence.description] = max(known, evidence.verdict, key=VERDICTS.index)
    return worst


def accuse(found_seeds: int = FOUND_SEEDS, quiet_seeds: int = QUIET_SEEDS) -> list[Row]:
    """Return how often what follows the medium is accused, and how often anything is where nothing follows it."""
    settings = config.load(Path("params.yaml"))
    planted = [(name, strength, seed) for name, strength in STRENGTHS for seed in range(found_seeds)]
    quiet = [(FOCUS, 0.0, seed) for seed in range(quiet_seeds)]
    with (
        tempfile.TemporaryDirectory(prefix="fatescope-bench-") as folder,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool,
    ):
        cases = planted + quiet
        verdicts = dict(zip(cases, pool.map(partial(worst_verdicts, Path(folder), settings), cases), strict=True))
    accused = {case: any(verdict != "clean" for verdict in verdicts[case].values()) for case in cases}
    rows = [
        Row(
            f"{name} at {strength}",
            {"accused": float(np.mean([accused[name, strength, seed] for seed in range(found_seeds)]))},
            {"accused": ">= 1"},
        )
        for name, strength in STRENGTHS
    ]
    return [
        *rows,
        Row("nothing planted", {"accused": float(np.mean([accused[each] for each in quiet]))}, {"accused": "<= 0"}),
    ]
