"""What the process of a challenger records, and what `fatescope models compare --live` makes of it."""

import json
import os
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from fatescope.cli.app import app
from fatescope.data.crops import pixel_hash
from fatescope.inference import shadow_records
from fatescope.inference.uncertainty import assess
from service.inference.prediction_log import PredictionLog
from service.shadow import metrics
from service.shadow import records as module
from service.shadow.records import ShadowRecords
from tests.support.waiting import until

CLASSES = ["a", "b"]


def add(records, champion, challenger, **more):
    """Record cells for which champion and challenger give these probabilities of class a; return the differences."""
    before, after = (np.array([[p, 1 - p] for p in given], np.float32) for given in (champion, challenger))
    cells = len(before)
    job = {
        "task": "binary", "champion": "3", "version": "4", "classes": CLASSES, "times": [1.8e9] * cells,
        "requests": [f"r{i // 2}" for i in range(cells)], "cells": list(range(cells)), "verdicts": ["sure"] * cells,
        "dropped": 5, **more,
    }  # fmt: skip
    distance = np.array([2.0] + [0.1] * (cells - 1), np.float32)
    crops = [np.full((4, 5), i, np.uint16) for i in range(cells)]
    assessment = assess(after, distance, [0.2, 0.2])
    return records.add(job, (before, distance), after, assessment, crops, 1.5)


def printed(folder, *options):
    return CliRunner().invoke(app, ["models", "compare", "--live", "binary", "--records", str(folder), *options])


def test_records_come_back_as_they_were_and_are_told_in_words(tmp_path):
    records = ShadowRecords(tmp_path)
    # The first cell is unlike the training cells of the challenger alone, one of two of its request.
    assert add(records, [0.9, 0.8, 0.7, 0.6], [0.9, 0.8, 0.7, 0.3]) == [0.5, 0.0]
    records.flush()
    rows = shadow_records.read(tmp_path, "binary", *shadow_records.versions(tmp_path, "binary"))
    assert rows["label"].tolist() == ["a", "a", "a", "b"]
    assert rows["divergence"].tolist() == pytest.approx([0, 0, 0, 0.3], abs=1e-6)
    assert rows["verdict"].tolist()[0] == "unlike_training"
    assert (rows["dropped"].sum(), rows["pixel_hash"].nunique()) == (5, 4)
    # As in the prediction log, by which a sample is found that is to be deleted.
    assert rows["image_hash"].tolist() == [pixel_hash(np.full((4, 5), i, np.uint16)) for i in range(4)]
    assert rows[["champion_p_a", "p_b"]].iloc[3].tolist() == pytest.approx([0.6, 0.7])
    text = printed(tmp_path).output
    assert "4 of 2 requests; 5 more were not compared (55.6%)" in text
    assert "a → b: 1" in text
    content = json.loads(printed(tmp_path, "--json").output)
    assert (content["champion"], content["challenger"], content["agreement"]) == ("3", "4", 0.75)
    assert printed(tmp_path, "3", "9").exit_code != 0


def test_labels_are_judged_while_the_challenger_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUDGED_S", -1)
    records = ShadowRecords(tmp_path)
    more = {"truths": ["a"] * 12, "groups": [None] * 12, "asked": [False] * 12}
    assert add(records, [0.9] * 12, [0.2] * 12, **more) == []
    records.flush()
    [event] = records.work()
    assert (event["task"], event["version"], event["verdict"]) == ("binary", "4", "worse")


def test_a_version_that_was_replaced_is_judged_no_more_and_its_evidence_is_not_published(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUDGED_S", -1)
    records = ShadowRecords(tmp_path)
    more = {"truths": ["a"] * 12, "groups": [None] * 12, "asked": [False] * 12}

    def judged(version):
        add(records, [0.9] * 12, [0.2] * 12, version=version, **more)
        records.flush()
        return [event["version"] for event in records.work()]

    def published():
        values = {version: metrics.EVIDENCE.labels("binary", version, "worse")._value.get() for version in ("4", "5")}
        return {version for version, value in values.items() if value > 0}

    assert (judged("4"), published()) == (["4"], {"4"})
    assert (judged("5"), published()) == (["5"], {"5"})
    records.forget("binary", "5")
    assert (list(records.work()), published()) == ([], set())


def test_labels_that_cannot_be_read_do_not_end_the_challenger(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "JUDGED_S", -1)
    records = ShadowRecords(tmp_path)
    add(records, [0.9], [0.2], truths=["a"], groups=[None], asked=[False])
    records.flush()
    [path] = shadow_records.folder(tmp_path, "binary").glob("labels-*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    assert list(records.work()) == []
    assert "the labels of version 4 of binary cannot be judged" in caplog.text


def test_rows_that_cannot_be_written_do_not_end_the_challenger(tmp_path, caplog):
    (tmp_path / "binary").write_text("in the way of a folder")
    records = ShadowRecords(tmp_path)
    add(records, [0.9, 0.1], [0.9, 0.1])
    records.flush()
    assert "2 answers of a challenger could not be recorded" in caplog.text


def test_a_folder_without_such_records_is_told(tmp_path):
    result = printed(tmp_path)
    assert result.exit_code != 0
    assert "FATESCOPE_SHADOW=true" in str(result.exception) + result.output


def test_records_of_the_shadow_are_deleted_after_the_retention_time(tmp_path):
    records = ShadowRecords(tmp_path)
    add(records, [0.9], [0.9])
    records.flush()
    [path] = shadow_records.folder(tmp_path, "binary").glob("*.parquet")
    long_ago = time.time() - 10 * 86_400
    os.utime(path, (long_ago, long_ago))
    log = PredictionLog(tmp_path, retention_days=9)
    until(lambda: not path.exists())
    log.close()
