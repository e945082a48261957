import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from service.batch import job, run, worker
from service.batch.prefetch import prefetch
from service.registry import model_store
from service.registry.model_store import Champion
from service.settings import ServiceSettings
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import tiff, typical
from tests.support.project import ROOT

PAGES = np.stack([typical(i) for i in range(3)])


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Cells of which a model says something, and what is none; parts of four files."""
    monkeypatch.setenv("FATESCOPE_ENGINE", "onnxruntime")
    monkeypatch.setenv("FATESCOPE_THREADS", "1")
    monkeypatch.setattr(job, "PART_FILES", 4)
    monkeypatch.setattr(worker, "BATCH", 3)
    copy_bundle(tmp_path / "bundle", "multiclass")
    folder = tmp_path / "source"
    (folder / "run_1").mkdir(parents=True)
    for i in range(9):
        (folder / "run_1" / f"a_1d1_{i}_Ch1.ome.tif").write_bytes(tiff(typical(i)))
        (folder / "run_1" / f"a_1d1_{i}_Ch4.ome.tif").write_bytes(b"a marker, which is not looked at")
    (folder / "stack.tif").write_bytes(tiff(PAGES, photometric="minisblack"))
    (folder / "notes.txt").write_bytes(b"fed on monday")
    (folder / "gone.tif").symlink_to(folder / "nowhere")
    return folder


def begin(source, out):
    return job.create_plan(source, out, Champion("multiclass", "7", source.parent / "bundle"))


def work(source, out):
    planned = job.read_plan(source, out, None) or begin(source, out)
    todo = job.pending_parts(out, planned.parts)
    done = list(run.run_local(out, todo, 1, 1, "onnxruntime"))
    assert job.pending_parts(out, planned.parts) == []
    return done


def test_each_cell_is_one_row_and_what_is_none_has_a_reason(source, tmp_path):
    out = tmp_path / "out"
    done = work(source, out)
    cells, refused = pd.read_parquet(out / "cells"), pd.read_parquet(out / "refused")
    assert sum(each.cells for each in done) == len(cells) == 12
    assert len(cells.drop_duplicates(["file", "page"])) == 12
    assert cells.loc[cells["file"] == "stack.tif", "page"].tolist() == [0, 1, 2]
    assert dict(zip(refused["file"], refused["code"], strict=True)) == {
        "notes.txt": "not_an_image",
        "gone.tif": "unreadable",
    }
    assert "No such file" in refused.set_index("file").loc["gone.tif", "reason"]
    told = job.summarise(out, len(done))
    assert asdict(told) == json.loads((out / "summary.json").read_text())
    assert (told.cells, sum(told.labels.values()), sum(told.verdicts.values())) == (12, 12, 12)
    assert told.refused == {"not_an_image": 1, "unreadable": 1}


def test_it_says_what_the_model_says(source, tmp_path):
    work(source, tmp_path / "out")
    cells = pd.read_parquet(tmp_path / "out" / "cells").set_index("file")
    model = bundle.load(source.parent / "bundle", 1)
    read = worker.CellDecoder(model.spec).decode(worker.Upload(tiff(typical(5)), "x.tif"))
    judged = model.assess(model.predict(next(iter(read)).pixels[None]))
    row = cells.loc["run_1/a_1d1_5_Ch1.ome.tif"]
    np.testing.assert_allclose(row[[f"p_{name}" for name in CLASSES]].astype(float), judged.probabilities[0], atol=1e-5)
    assert row["label"] == CLASSES[judged.probabilities[0].argmax()]
    assert row["verdict"] == judged.verdicts[0]
    assert set(row["conformal_set"]) == {name for name, held in zip(CLASSES, judged.sets[0], strict=True) if held}


def test_it_goes_on_where_it_was(source, tmp_path):
    out = tmp_path / "out"
    work(source, out)
    lost = out / "cells" / "0000001.parquet"
    before = pd.read_parquet(out / "cells")
    lost.unlink()
    # What a kill leaves: the beginning of a file.
    lost.with_name(f".{lost.name}.1").write_bytes(b"PAR1")
    assert [each.part for each in work(source, out)] == [1]
    pd.testing.assert_frame_equal(pd.read_parquet(out / "cells"), before)


def test_it_goes_on_with_the_model_that_it_was_begun_with(source, tmp_path):
    out = tmp_path / "out"
    planned = begin(source, out)
    # A new champion since then, or no registry any more, is no matter.
    assert job.read_plan(source, out, None) == planned
    assert job.read_plan(source, out, tmp_path / "bundle") == planned
    copy_bundle(tmp_path / "other", "multiclass", seed=1)
    with pytest.raises(DataError, match=r"started with fatescope-multiclass version 7 on .*; name another folder"):
        job.read_plan(source, out, tmp_path / "other")
    with pytest.raises(DataError, match="name another folder"):
        job.read_plan(tmp_path, out, None)


def test_where_nothing_can_begin_it_says_why(source, tmp_path):
    champion = Champion("multiclass", "7", tmp_path / "bundle")
    with pytest.raises(DataError, match="where it would be read as images; name a folder outside"):
        job.create_plan(source, source / "run_1" / "out", champion)
    with pytest.raises(DataError, match="not empty, and not made by this command"):
        job.create_plan(source, tmp_path / "bundle", champion)
    with pytest.raises(DataError, match="not a folder; unpack an archive first"):
        job.create_plan(tmp_path / "cells.zip", tmp_path / "second", champion)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file in it"):
        job.create_plan(tmp_path / "empty", tmp_path / "third", champion)
    with pytest.raises(BundleError, match="a model of task 'multiclass', not 'binary'"):
        run.select_model("binary", tmp_path / "bundle", ServiceSettings())
    assert run.select_model("", tmp_path / "bundle", ServiceSettings()).version == model_store.digest(
        tmp_path / "bundle"
    )


def test_an_error_of_the_reading_thread_is_raised_where_it_is_asked_for():
    def source():
        yield 1
        raise MemoryError("too many")

    found = prefetch(source(), 4)
    assert next(found) == 1
    with pytest.raises(MemoryError, match="too many"):
        next(found)


@pytest.mark.slow
def test_several_processes_from_the_command_line(source, tmp_path):
    out = tmp_path / "out"
    begin(source, out)
    told = ["--model", str(source.parent / "bundle"), "--workers", "2"]
    command = [sys.executable, "-m", "service.batch.run", str(source), str(out), *told]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "12 cells, 2 refused" in done.stderr
    assert len(pd.read_parquet(out / "cells")) == 12
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "0 of 3 parts to do" in again.stderr
