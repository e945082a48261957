"""A native file is scored in parts of its objects, as its cells would be as images, and again only where it changed."""

import io
import os

import numpy as np
import pandas as pd
import pytest

from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError
from service.batch import job, listing, pieces, run
from service.batch.plan import create_plan, read_plan, update_plan
from service.registry.model_store import Champion
from tests.support import native
from tests.support.images import tiff, typical

OBJECTS = [(np.stack([typical(i) // 2, typical(i)]), np.zeros((2, 45, 60), np.uint8)) for i in range(9)]
XML = native.acquisition_xml((1, 5), (5,))


@pytest.fixture
def cells_in_a_file(source):
    """The folder of cells with a .cif and a .rif in it, whose objects are numbered as in an export of some of them."""
    (source / "run_1" / "b.cif").write_bytes(native.native(OBJECTS, xml=XML, numbers=[3 * i for i in range(9)]))
    (source / "c.RIF").write_bytes(native.native(OBJECTS[:2], masks=False, xml=XML))
    return source


def score(source, out):
    champion = Champion("multiclass", "7", out.parent / "bundle")
    plan = read_plan(source, out, None)
    plan, changes = (create_plan(source, out, champion), None) if plan is None else update_plan(out, plan)
    pending = job.pending_parts(out, plan.parts)
    list(run.run_local(out, pending, 1, 1, "onnxruntime"))
    return plan, changes, len(pending), job.summarise(out, plan.parts)


def read(out):
    return pd.read_parquet(out / "cells").sort_values(["file", "page", "object"], ignore_index=True)


def test_objects_get_the_predictions_of_their_images(cells_in_a_file, tmp_path):
    for i in range(9):
        (cells_in_a_file / f"same_{i}.tif").write_bytes(tiff(typical(i)))
    plan, _, parts, summary = score(cells_in_a_file, tmp_path / "out")
    cells = read(tmp_path / "out")
    objects = cells[cells["file"] == "run_1/b.cif"]
    assert objects["object"].tolist() == [3 * i for i in range(9)]
    assert objects["page"].isna().all()
    assert cells.loc[cells["file"] == "c.RIF", "object"].tolist() == [0, 1]
    images = cells[cells["file"].str.startswith("same")]
    columns = [name for name in cells if name.startswith("p_")]
    np.testing.assert_allclose(objects[columns], images[columns], atol=1e-5)
    assert objects["label"].tolist() == images["label"].tolist()
    # Four objects a part: three parts of b.cif, one of c.RIF, and the files.
    listed = pd.read_parquet(tmp_path / "out" / "files.parquet")["file"]
    assert [pieces.parse(name).objects for name in listed if "b.cif" in name] == [4, 4, 0]
    assert plan.files == listed.map(pieces.file_of).nunique() == 23
    assert (parts, summary.cells, summary.vanished) == (plan.parts, 32, 0)


def test_one_file_can_be_scored_alone(source, tmp_path):
    (tmp_path / "b.cif").write_bytes(native.native(OBJECTS, xml=XML))
    out = tmp_path / "out"
    champion = Champion("multiclass", "7", tmp_path / "bundle")
    run.score(tmp_path / "b.cif", out, model=champion.path)
    assert read(out)["object"].tolist() == list(range(9))
    assert set(read(out)["file"]) == {"b.cif"}
    run.score(tmp_path / "b.cif", out, model=champion.path)
    assert len(read(out)) == 9
    (tmp_path / "x.cif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"x\.cif: a raw file of an Amnis instrument .*header cannot be read"):
        run.score(tmp_path / "x.cif", tmp_path / "other", model=champion.path)
    assert source.is_dir()


def test_a_file_that_has_changed_is_scored_again_and_nothing_else(cells_in_a_file, tmp_path):
    score(cells_in_a_file, tmp_path / "out")
    before = read(tmp_path / "out")
    assert score(cells_in_a_file, tmp_path / "out")[2] == 0
    path = cells_in_a_file / "run_1" / "b.cif"
    path.write_bytes(native.native([*OBJECTS[5:], *OBJECTS[:3]], xml=XML))
    os.utime(path, ns=(1, 1))
    plan, changes, parts, summary = score(cells_in_a_file, tmp_path / "out")
    assert parts == 2
    assert changes.vanished == []
    after = read(tmp_path / "out")
    assert after.loc[after["file"] == "run_1/b.cif", "object"].tolist() == list(range(7))
    rest = [table[table["file"] != "run_1/b.cif"].reset_index(drop=True) for table in (before, after)]
    pd.testing.assert_frame_equal(*rest)
    assert summary.cells == len(after)
    path.unlink()
    plan, changes, parts, summary = score(cells_in_a_file, tmp_path / "out")
    assert (changes.vanished, parts, summary.vanished) == (["run_1/b.cif"], 0, 1)
    assert len(read(tmp_path / "out")) == len(after)
    assert plan.files == 14


def test_damage_costs_its_object_or_what_is_behind_it(cells_in_a_file, tmp_path):
    directories = native.parts(OBJECTS, masks=False, xml=XML)
    directories[3][0][279] = (4, [5])
    raw = native.pack(directories)
    places = list(NativeFile(io.BytesIO(raw), "x").places())
    (cells_in_a_file / "run_1" / "b.cif").write_bytes(raw[: places[6].offset])
    (cells_in_a_file / "junk.cif").write_bytes(b"II*\0 not at all")
    (cells_in_a_file / "empty.cif").write_bytes(native.native([], xml=XML))
    _, _, _, summary = score(cells_in_a_file, tmp_path / "out")
    cells, refused = read(tmp_path / "out"), pd.read_parquet(tmp_path / "out" / "refused")
    assert cells.loc[cells["file"] == "run_1/b.cif", "object"].tolist() == [0, 1, 3, 4, 5]
    reasons = refused[refused["file"] == "run_1/b.cif"].set_index("object", drop=False)["reason"]
    assert reasons.loc[2].startswith("run_1/b.cif#2: its compressed data hold")
    assert "the objects from number 6 on of 9 cannot be found" in reasons[reasons.index.isna()].item()
    codes = dict(zip(refused["file"], refused["code"], strict=True))
    assert (codes["junk.cif"], codes["empty.cif"]) == ("truncated", "empty")
    assert sum(summary.refused.values()) == len(refused)


def test_pieces_are_read_back_as_they_are_written():
    piece = pieces.Piece("a\nb #1/x.CIF", 4000, 2000, 5_000_000_000)
    assert pieces.parse(str(piece)) == piece
    assert pieces.file_of(str(piece)) == "a\nb #1/x.CIF"
    assert pieces.parse("a.cif") is None
    assert pieces.file_of("a.cif") == "a.cif"
    assert pieces.parse("a.tif#0+1@8") is None


def test_a_listing_of_many_pieces_is_opened_once(tmp_path, monkeypatch):
    path, opened, genuine = tmp_path / "files.parquet", [], listing.pq.ParquetFile
    names = [*(f"{name}.cif#{i * 4}+4@{900 + i}" for name in "ab" for i in range(20)), "c.tif", "d.cif", "e.tif"]
    listing.write(path, (listing.Listed(name, 1, 1) for name in names), 2)

    def opening(*args, **how):
        opened.append(args)
        return genuine(*args, **how)

    monkeypatch.setattr(listing.pq, "ParquetFile", opening)
    assert listing.count(path) == (5, 42)
    assert len(opened) == 1
