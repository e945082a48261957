import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fatescope.data import dataset, features
from fatescope.errors import DataError
from pipelines.stages import ingest as stage
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params
from tests.support.presets import preset


def ingest(params, source, target):
    return stage.ingest(params.dataset, params.ingest, source, target)


def test_every_cell_of_the_input_channel_is_in_the_table(params, export, tmp_path):
    summary = ingest(params, export, tmp_path / "cells")
    known = dataset.load(tmp_path / "cells")
    assert summary.cells == len(known) == 48
    assert summary.other_channels == 48
    assert summary.labels == {"astrocyte": 24, "oligodendrocyte": 24}
    assert summary.groups == 6
    assert known.canvas == (60, 80)
    assert known.manifest["cell_id"].is_unique
    row = known.manifest.set_index("cell_id").loc["a_1d2_3_Ch1.ome.tif"]
    assert (row["label"], row["group"], row["medium"], row["day"], row["run"]) == ("astrocyte", "a_1_2", "a", "1", "2")
    assert row["bit_depth"] == 16
    assert set(features.ACQUISITION) <= set(known.manifest)


def test_pixels_are_in_the_order_of_the_table(params, export, tmp_path):
    ingest(params, export, tmp_path / "cells")
    known = dataset.load(tmp_path / "cells")
    for i in (0, 17, 47):
        row = known.manifest.iloc[i]
        top, left = (60 - row["height"]) // 2, (80 - row["width"]) // 2
        native = known.pixels[i, top : top + row["height"], left : left + row["width"]]
        assert native.mean() == pytest.approx(row["mean"])
        assert native.min() == row["darkest"]


def test_workers_change_nothing(make_params, export, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 7)
    monkeypatch.setattr(stage, "FILES_PER_WORKER", 1)
    hashes = [ingest(make_params({"ingest.workers": n}), export, tmp_path / f"cells{n}").data_hash for n in (1, 2)]
    assert hashes[0] == hashes[1]
    for name in (dataset.PIXELS, dataset.SUMMARY):
        assert (tmp_path / "cells1" / name).read_bytes() == (tmp_path / "cells2" / name).read_bytes()


def test_the_data_hash_follows_the_data(params, export, tmp_path, rng):
    before = ingest(params, export, tmp_path / "cells").data_hash
    (export / "a_1d1_0_Ch1.ome.tif").write_bytes(tiff(draw_cell(rng)))
    assert ingest(params, export, tmp_path / "cells").data_hash != before


def test_refused_files_are_kept_with_their_reason(make_params, export, tmp_path):
    (export / "a_1d1_90_Ch1.ome.tif").write_bytes(b"")
    (export / "a_1d1_91_Ch1.ome.tif").write_bytes(b"no image")
    (export / "notes.txt").write_text("not a cell")
    (export / "run.cif").write_bytes(b"raw")
    summary = ingest(make_params({"ingest.max_refused_share": 0.1}), export, tmp_path / "cells")
    assert summary.refused == {"empty": 1, "not_an_image": 1}
    assert (summary.unmatched, summary.unreadable) == (1, 1)
    assert summary.cells == 48
    quarantine = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).set_index("path")
    assert quarantine["code"].to_dict() == {
        "a_1d1_90_Ch1.ome.tif": "empty",
        "a_1d1_91_Ch1.ome.tif": "not_an_image",
        "notes.txt": "name",
        "run.cif": "unreadable",
    }
    assert quarantine.loc["notes.txt", "reason"] == "dataset.pattern does not match this path"
    assert (
        "raw file of an Amnis instrument (.rif or .cif) whose header cannot be read"
        in quarantine.loc["run.cif", "reason"]
    )
    assert "a_1d1_90_Ch1.ome.tif: the file is empty" in quarantine.loc["a_1d1_90_Ch1.ome.tif", "reason"]


def damage_places(export):
    """Put beside the cells what is no file that can be opened; return its path as it is reported → the reason."""
    (export / "a_1d1_90_Ch1.ome.tif").symlink_to("nowhere.tif")
    (export / "a_1d1_91_Ch1.ome.tif").symlink_to("a_1d1_91_Ch1.ome.tif")
    os.mkfifo(export / "a_1d1_92_Ch1.ome.tif")
    (export / "above").symlink_to(export)
    day = export / "day"
    day.mkdir()
    (day / "again").symlink_to("..")
    Path(os.fsdecode(os.fsencode(export) + b"/a_1d1_93_\xe9_Ch1.ome.tif")).write_bytes(b"")
    folder = Path(os.fsdecode(os.fsencode(export) + b"/stra\xdfe"))
    folder.mkdir()
    (folder / "a_1d1_94_Ch1.ome.tif").write_bytes(b"")
    return {
        "a_1d1_90_Ch1.ome.tif": "a link to 'nowhere.tif', which is not there",
        "a_1d1_91_Ch1.ome.tif": "Too many levels of symbolic links",
        "a_1d1_92_Ch1.ome.tif": "neither a file nor a folder",
        "above/": "a link to a folder that it is in",
        "day/again/": "a link to a folder that it is in",
        r"a_1d1_93_\xe9_Ch1.ome.tif": "the name is not UTF-8",
        r"stra\xdfe": "the name is not UTF-8",
    }


def test_what_cannot_be_opened_is_named_and_the_rest_is_read(params, export, tmp_path, caplog):
    whole = ingest(params, export, tmp_path / "whole")
    reasons = damage_places(export)
    caplog.set_level("WARNING")
    stage.main(write_params(tmp_path), export, tmp_path / "cells")
    summary = json.loads((tmp_path / "cells" / dataset.SUMMARY).read_text())
    assert summary["unreadable"] == 7
    assert (summary["cells"], summary["files"], summary["refused"], summary["data_hash"]) == (
        48,
        96,
        {},
        whole.data_hash,
    )
    quarantine = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).set_index("path")
    assert set(quarantine["code"]) == {"unreadable"}
    assert set(quarantine.index) == set(reasons)
    for path, reason in reasons.items():
        assert quarantine.loc[path, "reason"].startswith(f"{path}: ")
        assert reason in quarantine.loc[path, "reason"]
    assert "7 paths cannot be read, such as:" in caplog.text


def test_nothing_but_broken_links_is_an_error_that_names_them(params, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a_1d1_90_Ch1.ome.tif").symlink_to("nowhere.tif")
    with pytest.raises(DataError, match=r"1 that cannot:\n  a_1d1_90_Ch1.ome.tif: a link to 'nowhere.tif'"):
        ingest(params, tmp_path / "data", tmp_path / "cells")


def test_a_file_that_is_gone_when_it_is_read_is_refused(make_params, export, tmp_path, monkeypatch):
    params, whole = make_params({"ingest.max_refused_share": 0.1, "ingest.workers": 1}), Path.read_bytes

    def vanish(path):
        if path.name == "a_1d1_3_Ch1.ome.tif":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", vanish)
    summary = ingest(params, export, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (47, {"unreadable": 1})
    [reason] = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE)["reason"]
    assert reason == "a_1d1_3_Ch1.ome.tif: cannot be read: Permission denied"


def test_the_data_folder_and_folders_in_it_may_be_links(params, export, tmp_path):
    whole = ingest(params, export, tmp_path / "whole")
    (tmp_path / "linked").symlink_to(export)
    assert ingest(params, tmp_path / "linked", tmp_path / "cells").data_hash == whole.data_hash
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "day").symlink_to(export)
    assert ingest(params, tmp_path / "above", tmp_path / "cells").cells == 48


def test_too_many_refused_files_stop_the_stage(params, export, tmp_path):
    for i in range(5):
        (export / f"a_1d1_{90 + i}_Ch1.ome.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5 of 53 files were refused \(9\.4%\).*max_refused_share") as caught:
        ingest(params, export, tmp_path / "cells")
    assert "a_1d1_90_Ch1.ome.tif: not an image" in str(caught.value)
    assert not (tmp_path / "cells").exists()
    assert len(pd.read_parquet(tmp_path / "cells.part" / dataset.QUARANTINE)) == 5


def test_an_interrupted_run_leaves_nothing_and_starts_again_clean(params, export, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "summarise", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ingest(params, export, tmp_path / "cells")
    assert not (tmp_path / "cells").exists()
    monkeypatch.undo()
    assert ingest(params, export, tmp_path / "cells").cells == 48
    assert not (tmp_path / "cells.part").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset.pattern": r"(?P<medium>x+)_(?P<day>\d)_(?P<run>\d)_(?P<channel>\d)"},
            r"pattern matches none of the 96",
        ),
        ({"dataset.channels": {"7": "brightfield"}}, r"no file has channel '7', but there are \{'1': 48, '2': 48\}"),
        ({"ingest.canvas": [30, 30]}, r"48 of 48 files were refused \(100\.0%\)"),
    ],
)
def test_nothing_to_read_is_an_error_that_names_the_parameter(make_params, export, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        ingest(make_params(changes), export, tmp_path / "cells")


def test_a_missing_or_empty_folder_says_what_to_do(params, tmp_path):
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(DataError, match="fatescope data import SRC"):
            ingest(params, folder, tmp_path / "cells")


def test_duplicates_are_found_whatever_the_file_around_them(params, export, tmp_path, rng):
    pixels = draw_cell(rng)
    (export / "a_1d1_90_Ch1.ome.tif").write_bytes(tiff(pixels))
    (export / "a_1d1_91_Ch1.ome.tif").write_bytes(tiff(pixels, compression="zlib"))
    (export / "o_1d1_92_Ch1.ome.tif").write_bytes(tiff(pixels))
    summary = ingest(params, export, tmp_path / "cells")
    assert (summary.duplicates, summary.duplicates_across_groups) == (2, 1)


def test_a_share_is_drawn_from_each_class_and_group(make_params, export, tmp_path):
    summary = ingest(make_params({"ingest.share": 0.25}), export, tmp_path / "cells")
    assert summary.left_out == 36
    known = dataset.load(tmp_path / "cells").manifest
    assert known.groupby(["label", "group"]).size().tolist() == [2] * 6
    again = ingest(make_params({"ingest.share": 0.25}), export, tmp_path / "again")
    assert again.data_hash == summary.data_hash


@pytest.mark.parametrize("channels", [1, 2])
def test_a_share_has_all_images_of_a_cell_or_none(make_params, tmp_path, rng, channels):
    known = {"1": "brightfield", "12": "darkfield"}
    changes = preset("followed") | {"dataset.channels": dict(list(known.items())[:channels]), "ingest.share": 0.25}
    data = tmp_path / "data"
    data.mkdir()
    for medium in ("a", "o"):
        for cell in range(8):
            for hour in range(3):
                for channel in list(known)[:channels]:
                    name = f"{medium}_1d1_{cell}_t{hour}_Ch{channel}.ome.tif"
                    (data / name).write_bytes(tiff(draw_cell(rng, 30, 30, 8)))
    summary = ingest(make_params(changes), data, tmp_path / "cells")
    assert summary.left_out == 2 * 6 * 3
    manifest = dataset.load(tmp_path / "cells").manifest
    assert manifest.groupby(["label", "object"]).size().tolist() == [3] * 4


def test_a_sidecar_says_class_and_group_of_a_cell_and_is_part_of_the_version(params, export, tmp_path):
    before = ingest(params, export, tmp_path / "cells")
    sidecar = export / "fatescope_labels.csv"
    sidecar.write_text("path,label,group\na_1d1_0_Ch1.ome.tif,oligodendrocyte,\no_1d1_0_Ch1.ome.tif,astrocyte,a_1_2\n")
    after = ingest(params, export, tmp_path / "cells")
    assert (after.cells, after.unmatched, after.files) == (48, 0, before.files)
    assert after.data_hash != before.data_hash
    known = dataset.load(tmp_path / "cells").manifest.set_index("cell_id")[["label", "group"]]
    assert known.loc["a_1d1_0_Ch1.ome.tif"].tolist() == ["oligodendrocyte", "a_1_1"]
    assert known.loc["o_1d1_0_Ch1.ome.tif"].tolist() == ["astrocyte", "a_1_2"]
    assert known.loc["o_1d1_1_Ch1.ome.tif"].tolist() == ["oligodendrocyte", "o_1_1"]
    sidecar.unlink()
    assert ingest(params, export, tmp_path / "cells").data_hash == before.data_hash


def test_names_in_any_spelling_are_cells_of_their_class_and_group(params, export, tmp_path, rng):
    spellings = ("A_1D1_90_CH1.OME.TIF", "a_1d1_91_Ch01.ome.tif", "a_1d1_92_Ch1.ome (1).tif", "a_1d1_93_ch 1.ome.tif")
    for name in spellings:
        (export / name).write_bytes(tiff(draw_cell(rng)))
    (export / "a_1d1_91_Ch04.ome.tif").write_bytes(b"of another channel, which is never read")
    summary = ingest(params, export, tmp_path / "cells")
    assert (summary.cells, summary.groups, summary.unmatched, summary.other_channels) == (52, 6, 0, 49)
    manifest = dataset.load(tmp_path / "cells").manifest.set_index("cell_id").loc[list(spellings)]
    assert set(zip(manifest["label"], manifest["group"], manifest["channel"], strict=True)) == {
        ("astrocyte", "a_1_1", "1")
    }


def test_pages_are_cells(params, export, tmp_path, rng):
    stack = np.stack([draw_cell(rng) for _ in range(3)])
    (export / "a_1d1_90_Ch1.ome.tif").write_bytes(tiff(stack, photometric="minisblack"))
    assert ingest(params, export, tmp_path / "cells").cells == 51
    ids = dataset.load(tmp_path / "cells", ["cell_id"]).manifest["cell_id"]
    assert {"a_1d1_90_Ch1.ome.tif#0", "a_1d1_90_Ch1.ome.tif#2"} <= set(ids)


def test_every_slice_of_a_stack_has_the_depth_that_is_stated_once(params, export, tmp_path, rng):
    stack = np.stack([draw_cell(rng) for _ in range(3)])
    raw = tiff(stack, ome=True, photometric="minisblack", metadata={"axes": "TYX", "SignificantBits": 12})
    (export / "a_1d1_90_Ch1.ome.tif").write_bytes(raw)
    (export / "a_1d1_91_Ch1.ome.tif").write_bytes(tiff(stack, imagej=True, truncate=True))
    assert ingest(params, export, tmp_path / "cells").cells == 54
    cells = dataset.load(tmp_path / "cells", ["path", "bit_depth"]).manifest
    assert cells.loc[cells["path"] == "a_1d1_90_Ch1.ome.tif", "bit_depth"].tolist() == [12] * 3
    assert cells.loc[cells["path"] == "a_1d1_91_Ch1.ome.tif", "bit_depth"].tolist() == [16] * 3


def test_the_origin_is_carried(params, export, tmp_path):
    (export / "origin.json").write_text(json.dumps({"origin": "simulated"}))
    assert ingest(params, export, tmp_path / "cells").origin == {"origin": "simulated"}
    assert dataset.load_summary(tmp_path / "cells")["unmatched"] == 0


def test_the_neural_stem_cell_sample_is_read(params, unpack, tmp_path):
    summary = ingest(params, unpack("nsc_sample"), tmp_path / "cells")
    assert summary.labels == {"RA/SHH": 4, "astrocyte": 4, "oligodendrocyte": 4}
    background = dataset.load(tmp_path / "cells").manifest.groupby("label")["background"].mean().round()
    assert background.to_dict() == {"RA/SHH": 101, "astrocyte": 101, "oligodendrocyte": 152}


def test_an_image_of_a_track_whose_time_is_no_number_is_refused(make_params, tmp_path, rng):
    changes = preset("followed") | {"ingest.max_refused_share": 0.5}
    changes["dataset.pattern"] = changes["dataset.pattern"].replace(r"(?P<hour>\d+)", "(?P<hour>[^_]*)")
    changes["dataset.ranges"] = {}
    data = tmp_path / "data"
    data.mkdir()
    for cell, hour in ((1, "0"), (1, "6.5"), (2, "late")):
        (data / f"a_1d1_{cell}_t{hour}_Ch1.ome.tif").write_bytes(tiff(draw_cell(rng)))
    settings = make_params(changes)
    summary = ingest(settings, data, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (2, {"time": 1})
    known = dataset.load(tmp_path / "cells")
    assert known.manifest["hour"].tolist() == ["0", "6.5"]
    quarantine = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE)
    assert "the time 'late' is not a number; correct the name" in quarantine["reason"].iloc[0]
