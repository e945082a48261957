"""A second run into the same folder: the source has changed, or another model is asked for."""

import errno
import fcntl
import json
import os
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from service.batch import listing, run, worker
from service.registry import model_store
from tests.support import gates
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical


def score(source, out, **options):
    run.score(source, out, **{"model": source.parent / "bundle", "workers": 1, "threads": 1} | options)
    return json.loads((out / "summary.json").read_text())


def rows(out):
    cells = pd.read_parquet(out / "cells").sort_values(["file", "page"], ignore_index=True)
    refused = [pd.read_parquet(path) for path in (out / "refused").iterdir()]
    return cells.drop(columns=["conformal_set", "warnings"]), sorted(name for part in refused for name in part["file"])


def assert_as_anew(source, out):
    """Assert that the results in `out` are those of a first run over `source`."""
    anew = source.parent / "anew"
    score(source, anew)
    cells, refused = rows(out)
    expected, expected_refused = rows(anew)
    pd.testing.assert_frame_equal(cells, expected, rtol=1e-4)
    assert refused == expected_refused


def as_earlier(out):
    """Give the listing the form that it had before sizes and times."""
    pq.write_table(pq.read_table(out / "files.parquet", columns=["file"]), out / "files.parquet", row_group_size=4)


def write_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def test_a_folder_that_stayed_as_it_was_is_not_classified_again(source, tmp_path):
    first = score(source, tmp_path / "out")
    times = write_times(tmp_path / "out")
    assert score(source, tmp_path / "out") == first
    assert write_times(tmp_path / "out") == times
    assert first["vanished"] == 0


def test_new_files_are_classified_and_added(source, tmp_path, caplog):
    out = tmp_path / "out"
    score(source, out)
    times = write_times(out)
    (source / "run_2").mkdir()
    for i in range(5):
        (source / "run_2" / f"a_1d2_{i}_Ch1.ome.tif").write_bytes(tiff(typical(20 + i)))
    (source / "run_2" / "more.txt").write_bytes(b"fed on tuesday")
    (source / "run_2" / "a_1d2_0_Ch4.ome.tif").write_bytes(b"a marker channel, which is not used")
    with caplog.at_level("INFO"):
        summary = score(source, out)
    assert "6 new files and 0 that have changed" in caplog.text
    assert "2 of 5 parts to do" in caplog.text
    assert (summary["cells"], summary["refused"]) == (17, {"not_an_image": 2, "unreadable": 1})
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["files"], plan["parts"]) == (18, 5)
    assert times.items() <= write_times(out).items(), "what was done is not done again"
    assert_as_anew(source, out)


def test_files_that_changed_are_classified_again_and_no_others(source, tmp_path, caplog):
    out = tmp_path / "out"
    before = score(source, out)
    changed = source / "run_1" / "a_1d1_3_Ch1.ome.tif"
    changed.write_bytes(tiff(typical(30)))
    (source / "notes.txt").write_bytes(tiff(typical(31)))
    (source / "nowhere").write_bytes(tiff(typical(32)))
    with caplog.at_level("INFO"):
        summary = score(source, out)
    # `nowhere` is new, and `gone.tif`, which links to it, can be read now.
    assert "1 new file and 3 that have changed" in caplog.text
    assert (before["cells"], summary["cells"], summary["refused"]) == (12, 15, {})
    assert sum(summary["labels"].values()) == 15
    assert_as_anew(source, out)


def test_a_file_of_the_same_size_that_was_written_later_has_changed(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    changed = source / "run_1" / "a_1d1_3_Ch1.ome.tif"
    size, image = changed.stat().st_size, tiff(typical(30))
    changed.write_bytes(image)
    assert changed.stat().st_size == size
    score(source, out)
    assert_as_anew(source, out)


def test_files_that_vanished_are_named_and_keep_their_rows(source, tmp_path, caplog):
    out = tmp_path / "out"
    before = score(source, out)
    gone = [f"run_1/a_1d1_{i}_Ch1.ome.tif" for i in (2, 5)]
    kept = [(source / name).read_bytes() for name in gone]
    times = [(source / name).stat() for name in gone]
    for name in gone:
        (source / name).unlink()
    summary = score(source, out)
    assert summary == before | {"vanished": 2}
    assert f"2 files that were listed are not there any more, such as {gone[0]}" in caplog.text
    assert pd.read_parquet(out / "vanished.parquet")["file"].tolist() == gone
    assert set(gone) <= set(pd.read_parquet(out / "cells")["file"])
    # As a disk that was not mounted.
    for name, raw, status in zip(gone, kept, times, strict=True):
        (source / name).write_bytes(raw)
        os.utime(source / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert score(source, out) == before
    assert not (out / "vanished.parquet").exists()


def test_a_source_that_is_empty_now_costs_no_results(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    shutil.move(source, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="source: not there; name a folder"):
        score(source, out)
    source.mkdir()
    with pytest.raises(DataError, match="source: no file in it"):
        score(source, out)
    assert len(pd.read_parquet(out / "cells")) == 12


@pytest.mark.parametrize("failing", ["update", "score"])
def test_a_run_that_is_cut_off_while_it_adds_is_continued(source, tmp_path, monkeypatch, failing):
    out = tmp_path / "out"
    score(source, out)
    (source / "run_1" / "a_1d1_3_Ch1.ome.tif").write_bytes(tiff(typical(30)))
    for i in range(6):
        (source / f"a_1d2_{i}_Ch1.ome.tif").write_bytes(tiff(typical(20 + i)))

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(*((listing, "update") if failing == "update" else (worker.Scorer, "score")), cut_off)
        with pytest.raises(KeyboardInterrupt):
            score(source, out)
    assert not (out / "summary.json").exists(), "written last"
    score(source, out)
    assert_as_anew(source, out)


def test_a_plan_says_what_was_classified_with_what(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    digest = model_store.digest(tmp_path / "bundle")
    assert json.loads((out / "plan.json").read_text()) == {
        "source": str(source), "task": "multiclass", "model": "fatescope-multiclass", "version": digest,
        "digest": digest, "files": 12, "parts": 3, "quality": True,
    }  # fmt: skip
    listed = pd.read_parquet(out / "files.parquet").set_index("file")
    status = (source / "stack.tif").stat()
    assert listed.loc["stack.tif"].tolist() == [status.st_size, status.st_mtime_ns]


def test_another_model_or_task_is_refused_with_what_helps(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    copy_bundle(tmp_path / "other", "multiclass", seed=1)
    with pytest.raises(DataError, match=r"started with fatescope-multiclass version .*; name another folder"):
        score(source, out, model=tmp_path / "other")
    with pytest.raises(DataError, match=r"which is task 'multiclass'; name another folder for task 'binary'"):
        score(source, out, task="binary", model=None)


def test_another_champion_is_refused_by_a_job_that_is_done(source, tmp_path, monkeypatch):
    out, store = tmp_path / "out", tmp_path / "store"
    shutil.copytree(tmp_path / "bundle", store / "multiclass")
    monkeypatch.setenv("FATESCOPE_BUNDLES", str(store))
    before = score(source, out, model=None)
    assert score(source, out, model=None) == before
    shutil.rmtree(store / "multiclass")
    copy_bundle(store / "multiclass", "multiclass", seed=1)
    with pytest.raises(DataError, match=r"but the champion is version .*; name another folder .*`--model .*out/model`"):
        score(source, out, model=None)
    assert score(source, out, model=out / "model") == before
    # A job that was cut off goes on with what it has begun with.
    (out / "cells" / "0000001.parquet").unlink()
    (out / "summary.json").unlink()
    assert score(source, out, model=None) == before
    shutil.rmtree(store / "multiclass")
    with pytest.raises(BundleError, match=r"no bundle folder in it.*; or add `--model .*out/model` to go on"):
        score(source, out, model=None)


def test_a_job_of_an_earlier_version_is_continued(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    plan = json.loads((out / "plan.json").read_text())
    del plan["task"]
    (out / "plan.json").write_text(json.dumps(plan))
    as_earlier(out)
    times = write_times(out)
    score(source, out)
    assert write_times(out) == times
    assert len(pq.read_schema(out / "files.parquet")) == 3


def test_a_job_of_an_earlier_version_finds_what_has_changed_since(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    as_earlier(out)
    (source / "run_1" / "a_1d1_3_Ch1.ome.tif").write_bytes(tiff(typical(30)))
    score(source, out)
    assert_as_anew(source, out)


def test_one_run_at_a_time(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run is at work here; wait for its end"):
            score(source, out)
    score(source, out)


def test_a_folder_that_cannot_be_locked_still_takes_results(source, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level("WARNING"):
        summary = score(source, tmp_path / "out")
    assert summary["cells"] == 12
    assert "cannot be locked (No locks available); start no second run here" in caplog.text


def test_results_without_a_plan_are_neither_continued_nor_lost(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    (out / "plan.json").unlink()
    with pytest.raises(DataError, match=r"results without a plan\.json"):
        score(source, out)
    assert len(pd.read_parquet(out / "cells")) == 12


def test_a_file_is_no_folder_of_results(source, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="a file; name a folder for the results"):
        score(source, tmp_path / "out")


def test_a_job_without_quality_stays_one(source, tmp_path):
    model, out = source.parent / "bundle", tmp_path / "out"
    bundle.finalize(model, bundle.read_spec(model).model_copy(update={"quality": gates.GATE}))
    score(source, out, quality=False)
    (source / "run_1" / "a_1d1_99_Ch1.ome.tif").write_bytes(tiff(typical(99)))
    score(source, out)
    found = pd.read_parquet(out / "cells").set_index("file")["quality"]
    assert "run_1/a_1d1_99_Ch1.ome.tif" in found
    assert found.isna().all()
    with pytest.raises(DataError, match="without the quality of cells; name another folder"):
        score(source, out, quality=True)
