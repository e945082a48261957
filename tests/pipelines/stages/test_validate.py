"""Each expectation can fail, on the rows that break it and no others."""

import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from fatescope import config as params_module
from fatescope.data import features, table_parts
from fatescope.errors import DataError
from fatescope.quality import checkpoint, expectations
from pipelines.stages import ingest
from pipelines.stages import validate as stage
from tests.support.cases import case
from tests.support.params import write_params

CHANGES = {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]}, "validate.max_bad_share": 0.0}


def manifest():
    """Return 240 rows that meet every expectation."""
    count = 240
    label, run = np.repeat(["astrocyte", "oligodendrocyte"], count // 2), np.tile(["1", "2", "3"], count // 3)
    medium = np.repeat(["a", "o"], count // 2)
    return pd.DataFrame(
        {
            "cell_id": [f"cell{i}" for i in range(count)],
            "label": label,
            "group": [f"{m}_3_{r}" for m, r in zip(medium, run, strict=True)],
            "medium": medium,
            "day": "3",
            "run": run,
            "path": "x",
            "sha256": "0",
            "height": 45,
            "width": 60,
            "bit_depth": 12,
            "pixel_hash": range(count),
            "background": 700.0,
            "saturation": 0.0,
            "spread": 20.0,
            "focus": 2.0,
        }
    )


def broken(**changes):
    """Return a manifest whose first rows have other values: column=(value, ...)."""
    table = manifest().astype({"label": object})
    for column, values in changes.items():
        for row, value in enumerate(values):
            table.loc[row, column] = value
    return table


@pytest.fixture
def settings(make_params):
    return make_params(CHANGES)


def failures(table, settings, tmp_path):
    results = stage.validate(table, settings.dataset, settings.validation, tmp_path / "docs")
    return {(each["table"], each["column"]): each for each in results if not each["passed"]}


def test_good_cells_pass_and_the_page_says_so(settings, tmp_path):
    assert failures(manifest(), settings, tmp_path) == {}
    page = tmp_path / "docs/index.html"
    assert page.stat().st_size > 1000
    [cells] = [path for path in (tmp_path / "docs/expectations").glob("*.html") if path.stem == "cells"]
    assert "Every label is one that dataset.classes lists" in cells.read_text()
    assert "15 of 15 expectations hold; nothing stops the pipeline." in page.read_text()
    for each in (tmp_path / "docs").rglob("*.html"):
        assert not re.search(r'(src|href)="https?://(?!greatexpectations)[^"]*\.(css|js)', each.read_text()), each


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "where", "severity", "unexpected"),
    [
        (broken(label=["mystery"] * 36), ("cells", "label"), "critical", 36),
        (broken(day=["31", "0", "x"]), ("cells", "day (number)"), "critical", 3),
        (broken(height=[61, 10]), ("cells", "height"), "critical", 2),
        (broken(width=[81]), ("cells", "width"), "critical", 1),
        (broken(bit_depth=[8]), ("cells", "bit_depth"), "critical", None),
        (broken(saturation=[0.5]), ("cells", "saturation"), "critical", 1),
        (broken(spread=[0.0]), ("cells", "spread"), "critical", 1),
        (broken(focus=[0.01]), ("cells", "focus"), "warning", 1),
        (broken(cell_id=["cell1"]), ("cells", "cell_id"), "critical", 2),
        (manifest().drop(columns="sha256"), ("cells", None), "critical", None),
        (pd.concat([manifest()[:120], manifest()[120:160]]), ("classes", "cells"), "critical", 1),
        (broken(group=["a_3_4"] * 5), ("groups", "cells"), "warning", 1),
    ],
)
def test_each_expectation_fails_on_what_breaks_it(settings, tmp_path, table, where, severity, unexpected):
    found = failures(table.reset_index(drop=True), settings, tmp_path)
    assert set(found) == {where}
    assert found[where]["severity"] == severity
    assert found[where]["unexpected"] == unexpected


@pytest.mark.slow
def test_duplicates_warn_and_leaks_between_groups_stop(settings, tmp_path):
    within = failures(broken(pixel_hash=[0, 1, 2, 0]), settings, tmp_path)
    assert {key: each["severity"] for key, each in within.items()} == {("cells", "pixel_hash"): "warning"}
    across = failures(broken(pixel_hash=[0, 0]), settings, tmp_path)
    assert across["cells", "groups with these pixels"]["severity"] == "critical"
    assert across["cells", "groups with these pixels"]["where"] == ["astrocyte a_3_1: 1", "astrocyte a_3_2: 1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        broken(label=["mystery"] * 36, day=["31", "0", "x"], height=[61, 10], saturation=[0.5], focus=[0.01]),
        broken(cell_id=["cell1"], bit_depth=[8], pixel_hash=[0, 0, 5, 5, 9, 12, 12], spread=[np.nan, 0.0]),
        manifest().drop(columns=["sha256", "focus"]),
    ],
    ids=["values", "repeated", "columns"],
)
def test_a_large_table_is_counted_as_great_expectations_counts_a_small_one(settings, tmp_path, monkeypatch, table):
    monkeypatch.setattr(table_parts, "PART", 50)
    table.to_parquet(tmp_path / "manifest.parquet")
    given = table_parts.FileParts(tmp_path / "manifest.parquet")
    whole, counted = (
        stage.validate(given, settings.dataset, settings.validation, tmp_path / f"{size}", size) for size in (240, 60)
    )
    assert counted == whole
    page = (tmp_path / "60/index.html").read_text()
    assert "They look at 60 of the 240 cells, drawn at random (seed 0)" in page
    assert "drawn at random" not in (tmp_path / "240/index.html").read_text()


def test_the_report_says_what_great_expectations_looked_at(tmp_path, export, monkeypatch):
    changes = {"validate.min_cells_per_class": 10, "validate.min_cells_per_group": 1}
    everything = run_stage(tmp_path, export, changes)
    assert everything["looked_at"] == {"cells": 48, "by_great_expectations": 48, "seed": None}
    monkeypatch.setattr(stage, "SAMPLE", 20)
    stage.main(tmp_path / "params.yaml", tmp_path / "cells", tmp_path / "validation.json", tmp_path / "docs")
    sampled = json.loads((tmp_path / "validation.json").read_text())
    assert sampled["looked_at"] == {"cells": 48, "by_great_expectations": 20, "seed": 0}
    assert sampled["expectations"] == everything["expectations"]


def test_a_group_under_another_lamp_warns(settings, tmp_path):
    table = manifest()
    table.loc[table["group"] == "o_3_2", "background"] = 1100
    found = failures(table, settings, tmp_path)
    assert found["groups", "background shift"]["where"] == ["oligodendrocyte o_3_2 0.571"]


def test_a_window_without_labels_is_checked_by_the_same_object(settings, tmp_path):
    window = broken(spread=[0.0]).drop(columns=["label", "group", "medium", "day", "run", "sha256"])
    results = checkpoint.check_tables(
        {"window": (window, expectations.image_expectations(settings.validation))}, tmp_path / "docs"
    )
    [failed] = [each for each in results if not each["passed"]]
    assert (failed["column"], failed["found"]) == ("spread", f"1 of {len(window)} cells violates it")


def run_stage(tmp_path, export, changes):
    path = write_params(tmp_path, {**CHANGES, **changes})
    ingest.main(path, export, tmp_path / "cells")
    stage.main(path, tmp_path / "cells", tmp_path / "validation.json", tmp_path / "docs")
    return json.loads((tmp_path / "validation.json").read_text())


def test_a_failure_stops_the_line_with_a_table_and_leaves_the_report(tmp_path, export):
    with pytest.raises(DataError, match="2 of 15 expectations failed") as caught:
        run_stage(tmp_path, export, {"dataset.classes": {"a": "astrocyte", "x": "oligodendrocyte"}})
    text = str(caught.value)
    assert "Every label is one that dataset.classes lists" in text
    assert "24 of 48 cells violate it; o o_1_1: 8; o o_1_2: 8; o o_1_3: 8" in text
    report = json.loads((tmp_path / "validation.json").read_text())
    assert not report["passed"]
    assert (tmp_path / "docs/index.html").exists()


def test_stacks_that_state_their_depth_once_are_valid(tmp_path):
    export = tmp_path / "export"
    with zipfile.ZipFile(case("export_of_described_once_stacks.zip")) as archive:
        archive.extractall(export)
    report = run_stage(tmp_path, export, {"validate.min_cells_per_class": 10, "validate.min_cells_per_group": 1})
    assert [each["found"] for each in report["expectations"] if not each["passed"]] == []


def test_a_warning_does_not_stop_the_line(tmp_path, export, caplog):
    report = run_stage(tmp_path, export, {"validate.min_cells_per_class": 24})
    assert report["passed"]
    assert [each["column"] for each in report["expectations"] if not each["passed"]] == ["cells"]
    assert "1 warning:" in caplog.text
    assert params_module.load(tmp_path / "params.yaml").validation.min_cells_per_group == 10


def test_importing_the_suite_is_cheap():
    code = "import sys, fatescope.quality.expectations; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_channel_that_is_blank_or_saturated_is_found_by_its_name(settings, make_params, tmp_path):
    dataset = make_params({**CHANGES, "dataset.channels": {"1": "brightfield", "12": "darkfield"}}).dataset
    table = manifest().assign(spread_12=20.0, saturation_12=0.0, focus_12=0.0)
    table.loc[0, "spread_12"], table.loc[1, "saturation_12"] = 0.0, 0.5
    results = stage.validate(table, dataset, settings.validation, tmp_path / "docs")
    failed = {result["column"]: result for result in results if not result["passed"]}
    assert set(failed) == {"spread_12", "saturation_12"}  # darkfield has no focus to ask for
    assert "is not blank in channel 12" in failed["spread_12"]["expectation"]
    # The exporter, which has no settings of the data, finds the channels in the window.
    suite = expectations.image_expectations(settings.validation, ["", *features.further_channels(table.columns)])
    of_window = checkpoint.check_tables({"window": (table, suite)}, tmp_path / "window")
    assert {result["column"] for result in of_window if not result["passed"]} == {"spread_12", "saturation_12"}
