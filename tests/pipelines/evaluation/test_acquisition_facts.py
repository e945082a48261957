"""What files of the instrument say of the acquisition is held to what was planted in it."""

import numpy as np
import pandas as pd
import pytest

from pipelines.evaluation.acquisition_facts import ALL, audit_facts, read_facts
from pipelines.evaluation.audit_report import AuditReport
from pipelines.evaluation.audit_sample import AuditSample
from pipelines.evaluation.intervals import make_units
from pipelines.reporting.instrument_facts import name_instrument, tabulate_facts
from pipelines.stages.audit import describe_fact

GROUPS, CELLS = 5, 12
"""Of each class, and of each group."""


@pytest.fixture
def sample():
    labels = np.repeat(["a", "o"], GROUPS * CELLS)
    groups = np.repeat([f"{name}{run}" for name in "ao" for run in range(GROUPS)], CELLS)
    units = make_units(np.char.add("group ", groups), labels)
    return AuditSample(labels, groups, np.ones(len(labels), bool), units, {}, np.zeros((len(labels), 1)))


@pytest.fixture
def manifest(sample):
    rng, count = np.random.default_rng(0), len(sample.labels)
    of_class = sample.labels == "o"
    return pd.DataFrame(
        {
            "label": sample.labels,
            "native_run": sample.groups,
            "native_object": np.arange(count),
            "native_flow_speed": 40 + 5.0 * of_class + rng.normal(0, 0.5, count),
            "native_camera_timer": rng.permutation(count),
            "native_date": np.where(of_class, "5/3/2016 9:00:00 AM", "5/2/2016 2:26:24 PM"),
            "native_instrument": "IS100",
            "native_magnification": 40.0,
            "native_background_mean": 690.0,
            "native_background_mean_5": 690.0,
            "native_background_mean_1": np.where(np.arange(count) % 3, np.nan, 30.0),
            "native_brightfield_power_w": np.nan,
        }
    )


def test_a_fact_that_goes_with_the_class_is_found_and_one_that_does_not_is_not(sample, manifest, make_params):
    facts = audit_facts(sample, manifest, make_params().audit)
    assert facts["flow_speed"].accuracy["grouped"].value > 0.95
    assert facts["date"].cramers_v == pytest.approx(1, abs=0.01)
    assert facts["date"].accuracy["grouped"].value == 1
    assert facts[ALL].accuracy["grouped"].value > 0.95
    assert abs(facts["camera_timer"].accuracy["grouped"].value - 0.5) < 0.15
    assert (facts["instrument"].distinct, facts["instrument"].accuracy) == (1, {})
    assert facts["background_mean_1"].known == pytest.approx(1 / 3, abs=0.01)
    assert "flow_speed alone predicts the class" in describe_fact("flow_speed", facts["flow_speed"])
    assert describe_fact("camera_timer", facts["camera_timer"]) == ""


def test_names_of_cells_and_groups_are_no_facts_nor_is_what_no_file_says(manifest):
    assert set(read_facts(manifest)) == {
        "flow_speed", "camera_timer", "date", "instrument", "magnification", "background_mean", "background_mean_1"
    }  # fmt: skip


def test_without_files_of_an_instrument_there_is_nothing(sample, manifest, make_params):
    plain = manifest[["label"]]
    assert audit_facts(sample, plain, make_params().audit) == {}
    assert name_instrument(plain) == ""


def test_a_report_without_facts_is_the_file_that_it_was(sample, manifest, make_params):
    empty = AuditReport.model_validate(
        {"cells": 1, "thresholds": {"suspect": 0.8, "shortcut": 0.9}, "resampled": {}, "acquisition": {}, "pairs": [],
         "baseline": {}, "tasks": {}, "groups": {}, "confounding": {"cramers_v": {}, "cells": {}}}
    )  # fmt: skip
    assert "facts" not in empty.model_dump()
    facts = audit_facts(sample, manifest, make_params().audit)
    full = empty.model_copy(update={"facts": facts})
    assert AuditReport.model_validate(full.model_dump()).facts == facts
    assert name_instrument(manifest) == "IS100 at 40x"
    rows = {row.title: row for row in tabulate_facts(manifest, full)}
    assert rows["Magnification"].value == "40"
    assert rows["Date"].value == "5/2/2016, 5/3/2016"
    assert rows["Flow speed, mm/s"].accuracy.value > 0.95
    assert rows["Instrument"].accuracy is None
