"""What evaluation makes of predictions; `test_line` evaluates models."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fatescope.inference.uncertainty import Assessment
from pipelines.stages import evaluate
from tests.support.project import copied, run

CLASSES = ["G1", "G2"]
COMPOSITION = {"mean_error": 0.1}


def judged_cells(rng, split, groups):
    """A model that is right of three cells in four, on cells of `groups`, which begin with their class."""
    targets = np.array([CLASSES.index(each[:2]) for each in groups])
    right = rng.random(len(groups)) < 0.75
    sure = np.where(right == (targets == 0), 0.8, 0.2)
    probabilities = np.stack([sure, 1 - sure], 1).astype(np.float32)
    judged = Assessment(
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


def test_what_dvc_draws(rng, params, tmp_path):
    """A line a class, calibration before and after apart, and no cell of one split drawn among those of the other."""
    project, groups = copied(tmp_path / "project"), [f"G{1 + i % 2}{i % 6}" for i in range(400)]
    tables = project / "reports/binary/tables"
    tables.mkdir(parents=True)
    found = [evaluate.curves(judged_cells(rng, split, groups)[0], 5) for split in ("grouped", "random")]
    evaluate.write_tables({"grouped": found[0], "random": found[1]}, tables)
    figures = evaluate.evaluate(*judged_cells(rng, "grouped", groups), {}, COMPOSITION, params)
    (project / "reports/binary/metrics.json").write_text(json.dumps({"splits": {"grouped": figures}}))

    run(project, "dvc", "plots", "show", "-o", "drawn")
    page = (project / "drawn/index.html").read_text()
    specs = [json.loads(each) for each in re.findall(r"var spec = (.*);$", page, re.MULTILINE)]
    specs = [each for each in specs if each]  # empty for the task that has no tables
    assert "<DVC_METRIC" not in page
    shown = {}
    for spec in specs:
        drawn = spec.get("spec", spec)
        colours = [each["encoding"]["color"] for each in drawn.get("layer", [drawn]) if "color" in each["encoding"]]
        fields = {colours[0]["field"], *(each["field"] for each in spec.get("facet", {}).values())}
        assert {row["split"] for row in spec["data"]["values"]} == {"grouped", "random"}
        shown[spec["title"]["text"]] = fields
    assert shown == {
        "binary: ROC by class": {"class", "split"},
        "binary: reliability": {"when", "split"},
        "binary: risk by coverage": {"split"},
        "binary: confusion": {"share", "split", "rev"},
    }
    told = json.loads(run(project, "dvc", "metrics", "show", "--json"))
    assert told[""]["data"]["reports/binary/metrics.json"]["data"]["splits"]["grouped"]["groups"] == 6
