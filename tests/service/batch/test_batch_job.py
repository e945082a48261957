import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from service.batch import job, run, worker
from service.batch.plan import create_plan, read_plan
from service.batch.prefetch import prefetch
from service.inference.files import Upload
from service.registry import model_store
from service.registry.model_store import Champion
from service.settings import ServiceSettings
from tests.support import gates
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import tiff, typical
from tests.support.project import ROOT


def plan(source, out):
    return create_plan(source, out, Champion("multiclass", "7", source.parent / "bundle"))


def score(source, out):
    current = read_plan(source, out, None) or plan(source, out)
    pending = job.pending_parts(out, current.parts)
    results = list(run.run_local(out, pending, 1, 1, "onnxruntime"))
    assert job.pending_parts(out, current.parts) == []
    return results


def test_each_cell_is_one_row_and_each_rejected_file_has_a_reason(source, tmp_path):
    out = tmp_path / "out"
    done = score(source, out)
    cells, refused = pd.read_parquet(out / "cells"), pd.read_parquet(out / "refused")
    assert sum(result.cells for result in done) == len(cells) == 12
    assert len(cells.drop_duplicates(["file", "page"])) == 12
    assert cells.loc[cells["file"] == "stack.tif", "page"].tolist() == [0, 1, 2]
    assert dict(zip(refused["file"], refused["code"], strict=True)) == {
        "notes.txt": "not_an_image",
        "gone.tif": "unreadable",
    }
    assert "No such file" in refused.set_index("file").loc["gone.tif", "reason"]
    summary = job.summarise(out, len(done))
    assert asdict(summary) == json.loads((out / "summary.json").read_text())
    assert (summary.cells, sum(summary.labels.values()), sum(summary.verdicts.values())) == (12, 12, 12)
    assert summary.refused == {"not_an_image": 1, "unreadable": 1}


def test_a_name_that_no_table_can_hold_is_named_and_left_out(source, tmp_path, caplog):
    (source / os.fsdecode(b"caf\xe9.tif")).write_bytes(tiff(typical(5)))
    score(source, tmp_path / "out")
    assert "caf\\xe9.tif: left out, its name is not UTF-8" in caplog.text


@pytest.mark.parametrize(
    "name", ["Größe 1 (2).tif", "a\nb.tif", 'x,"y".tif', "=1+1.tif", "🧫.tif", "no suffix", "-.tif"]
)
def test_a_cell_counts_whatever_its_name(source, tmp_path, name):
    (source / name).write_bytes(tiff(typical(5)))
    current = plan(source, tmp_path / "out")
    assert current.files == 13
    score(source, tmp_path / "out")
    assert name in pd.read_parquet(tmp_path / "out" / "cells")["file"].tolist()
    assert job.summarise(tmp_path / "out", current.parts).cells == 13


def test_rows_agree_with_the_bundle(source, tmp_path):
    score(source, tmp_path / "out")
    cells = pd.read_parquet(tmp_path / "out" / "cells").set_index("file")
    model = bundle.load(source.parent / "bundle", 1)
    decoded = worker.CellDecoder(model.spec).decode(Upload(tiff(typical(5)), "x.tif"))
    expected = model.assess(model.predict(next(decoded).pixels[None]))
    row = cells.loc["run_1/a_1d1_5_Ch1.ome.tif"]
    np.testing.assert_allclose(
        row[[f"p_{name}" for name in CLASSES]].astype(float), expected.probabilities[0], atol=1e-5
    )
    assert row["label"] == CLASSES[expected.probabilities[0].argmax()]
    assert row["verdict"] == expected.verdicts[0]
    assert set(row["conformal_set"]) == {name for name, member in zip(CLASSES, expected.sets[0], strict=True) if member}


def test_an_interrupted_job_repeats_only_the_missing_part(source, tmp_path):
    out = tmp_path / "out"
    score(source, out)
    lost = out / "cells" / "0000001.parquet"
    before = pd.read_parquet(out / "cells")
    lost.unlink()
    # A killed process leaves the beginning of a file.
    lost.with_name(f".{lost.name}.1").write_bytes(b"PAR1")
    assert [result.part for result in score(source, out)] == [1]
    pd.testing.assert_frame_equal(pd.read_parquet(out / "cells"), before)


def test_a_job_continues_with_the_model_that_it_started_with(source, tmp_path):
    out = tmp_path / "out"
    current = plan(source, out)
    # A new champion, or a registry that is gone, makes no difference.
    assert read_plan(source, out, None) == current
    assert read_plan(source, out, tmp_path / "bundle") == current
    copy_bundle(tmp_path / "other", "multiclass", seed=1)
    with pytest.raises(DataError, match=r"started with fatescope-multiclass version 7 on .*; name another folder"):
        read_plan(source, out, tmp_path / "other")
    with pytest.raises(DataError, match="name another folder"):
        read_plan(tmp_path, out, None)


def test_a_job_that_cannot_start_has_its_reason(source, tmp_path):
    champion = Champion("multiclass", "7", tmp_path / "bundle")
    with pytest.raises(DataError, match="where it would be read as images; name a folder outside"):
        create_plan(source, source / "run_1" / "out", champion)
    with pytest.raises(DataError, match="not empty, and not made by this command"):
        create_plan(source, tmp_path / "bundle", champion)
    for name, message in (
        ("cells", "not there; name a folder of images"),
        ("cells.zip", "an archive; unpack it"),
        ("cell.tif", "neither a folder nor a .cif or .rif; name the folder that the images are in"),
    ):
        if "." in name:
            (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=f"{name}: {message}"):
            create_plan(tmp_path / name, tmp_path / "second", champion)
    (tmp_path / "run.cif").write_bytes(b"raw")
    with pytest.raises(DataError, match=r"run\.cif: a raw file of an Amnis instrument .*header cannot be read"):
        create_plan(tmp_path / "run.cif", tmp_path / "second", champion)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file in it; name the folder that the images are in"):
        create_plan(tmp_path / "empty", tmp_path / "third", champion)
    with pytest.raises(BundleError, match="a model of task 'multiclass', not 'binary'"):
        run.select_model("binary", tmp_path / "bundle", ServiceSettings())
    selected = run.select_model("", tmp_path / "bundle", ServiceSettings())
    assert selected.version == model_store.digest(tmp_path / "bundle")


def test_an_error_while_prefetching_is_raised_by_the_iterator():
    def source():
        yield 1
        raise MemoryError("too many")

    items = prefetch(source(), 4)
    assert next(items) == 1
    with pytest.raises(MemoryError, match="too many"):
        next(items)


@pytest.mark.slow
def test_several_processes_from_the_command_line(source, tmp_path):
    out = tmp_path / "out"
    plan(source, out)
    options = ["--model", str(source.parent / "bundle"), "--workers", "2"]
    command = [sys.executable, "-m", "fatescope.cli", "score", str(source), "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "12 cells, 2 refused" in done.stderr
    assert len(pd.read_parquet(out / "cells")) == 12
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "0 of 3 parts to do" in again.stderr


def test_each_row_says_why_its_cell_is_outside_the_gates(source, tmp_path):
    (source / "run_1" / "a_1d1_99_Ch1.ome.tif").write_bytes(tiff(gates.EMPTY))
    model = source.parent / "bundle"
    score(source, tmp_path / "without")
    before = pd.read_parquet(tmp_path / "without" / "cells")
    assert before["quality"].isna().all(), "a bundle that is older than the gates says nothing"
    bundle.finalize(model, bundle.read_spec(model).model_copy(update={"quality": gates.GATE}))
    score(source, tmp_path / "with")
    after = pd.read_parquet(tmp_path / "with" / "cells")
    pd.testing.assert_frame_equal(after.drop(columns="quality"), before.drop(columns="quality"))
    found = after.set_index("file")["quality"].map(list)
    assert "debris" in found["run_1/a_1d1_99_Ch1.ome.tif"]
    assert found["run_1/a_1d1_5_Ch1.ome.tif"] == gates.reasons(typical(5))


def test_a_gpu_that_is_lost_ends_the_job_with_what_to_do_and_the_next_run_goes_on(source, tmp_path, monkeypatch):
    out, calls, predict = tmp_path / "out", [], bundle.Graph.predict

    def lose(self, pixels, **options):
        calls.append(len(pixels))
        # The first four check and warm up the engine.
        if len(calls) > 6:
            raise RuntimeError("CUDA error: unspecified launch failure\nmore of it")
        return predict(self, pixels, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bundle.Graph, "predict", lose)
        with pytest.raises(BundleError, match=r"the GPU is lost .*; run the same command again to continue"):
            score(source, out)
    assert score(source, out), "parts were left"
    assert len(pd.read_parquet(out / "cells")) == 12
