"""A file that crashes its decoder, or never ends it, costs itself: all others are scored."""

import os
import signal
import threading

import pandas as pd
import pytest

from fatescope.errors import BundleError, DataError
from service.batch import job, local, reading, run
from service.batch.plan import create_plan
from service.registry.model_store import Champion

pytestmark = pytest.mark.slow


def fragile(decoder, source, entry):
    """Read an entry; that of one name kills the process, and that of another never ends."""
    if "_3_Ch1" in entry:
        os.kill(os.getpid(), signal.SIGKILL)
    if "_7_Ch1" in entry:
        threading.Event().wait()
    yield from reading.decode_entry(decoder, source, entry)


def deadly(_decoder, _source, _entry):
    os.kill(os.getpid(), signal.SIGKILL)


def score(source, out, workers):
    plan = create_plan(source, out, Champion("multiclass", "7", out.parent / "bundle"))
    return list(run.run_local(out, job.pending_parts(out, plan.parts), workers, 1, "onnxruntime")), plan


def test_the_others_are_scored_and_the_file_is_refused_by_name(source, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "decode_entry", fragile)
    monkeypatch.setattr(local, "PATIENCE_S", 8.0)
    results, plan = score(source, tmp_path / "out", 2)
    assert sorted(result.part for result in results) == list(range(plan.parts))
    cells = pd.read_parquet(tmp_path / "out" / "cells")["file"].tolist()
    assert sorted(cells) == [*(f"run_1/a_1d1_{i}_Ch1.ome.tif" for i in range(9) if i not in (3, 7)), *["stack.tif"] * 3]
    refused = pd.read_parquet(tmp_path / "out" / "refused").set_index("file")
    assert refused["code"].to_dict() == {
        "gone.tif": "unreadable",
        "notes.txt": "not_an_image",
        "run_1/a_1d1_3_Ch1.ome.tif": "unreadable",
        "run_1/a_1d1_7_Ch1.ome.tif": "unreadable",
    }
    assert refused.loc["run_1/a_1d1_3_Ch1.ome.tif", "reason"] == f"run_1/a_1d1_3_Ch1.ome.tif: {local.CRASH}"
    assert refused.loc["run_1/a_1d1_7_Ch1.ome.tif", "reason"] == f"run_1/a_1d1_7_Ch1.ome.tif: {local.HANG}"


def test_files_that_all_end_their_processes_end_the_command(source, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "decode_entry", deadly)
    monkeypatch.setattr(local, "MAX_CRASHES", 2)
    with pytest.raises(DataError, match="a process was killed, after 3 files that did this; is there enough memory"):
        score(source, tmp_path / "out", 0)


def test_what_is_wrong_with_the_model_is_raised_from_another_process_too(source, tmp_path):
    plan = create_plan(source, tmp_path / "out", Champion("multiclass", "7", tmp_path / "bundle"))
    (tmp_path / "out" / "model" / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        list(run.run_local(tmp_path / "out", job.pending_parts(tmp_path / "out", plan.parts), 0, 1, "onnxruntime"))
