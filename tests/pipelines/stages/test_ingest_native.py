"""Objects of native files become cells, with labels from paths or from hand-made populations, in flat memory."""

import io
import os
import signal

import numpy as np
import pandas as pd
import pytest
import tifffile

from fatescope.config.presets import get_preset
from fatescope.data import dataset
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError
from pipelines.evaluation.acquisition_facts import read_facts
from pipelines.ingestion import native_reader
from pipelines.ingestion.reader import Reader
from pipelines.ingestion.survey import describe, survey
from pipelines.stages import ingest as stage
from tests.support import native
from tests.support.images import tiff
from tests.support.project import SHARED


class Fragile(Reader):
    """A reader that the second range of n_1d1.cif kills."""

    def read(self, job):
        if job.cells.path == "n_1d1.cif" and job.numbers[0] == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(job)


XML = native.acquisition_xml((1, 5), (5,))
HERE = {"ingest.max_refused_share": 0.3}


def ingest(params, source, target):
    return stage.ingest(params.dataset, params.ingest, source, target)


def drawn(count, seed=0):
    return native.draw_objects(count, (1, 5), seed)


def write(folder, name, objects, **how):
    """Write a native file with these objects; how as `native.native`."""
    folder.mkdir(exist_ok=True, parents=True)
    raw = native.native(objects, **{"xml": XML, "runs": (name.split(".")[0],), **how})
    (folder / name).write_bytes(raw)
    return raw


def records_of(raw):
    """Return the binary part of a .daf of a file with these bytes."""
    return native.records({place.object: place.offset for place in NativeFile(io.BytesIO(raw), "x").places()})


@pytest.fixture
def instrument(tmp_path):
    """Return a data folder of two native files, whose paths say the class."""
    folder = tmp_path / "data"
    write(folder, "a_1d1.cif", drawn(9, 1))
    write(folder, "o_3d2.rif", drawn(7, 2), masks=False)
    return folder


def test_the_objects_of_a_file_are_cells(params, instrument, tmp_path):
    summary = ingest(params, instrument, tmp_path / "cells")
    cells = dataset.load(tmp_path / "cells")
    assert (summary.cells, summary.files, summary.unmatched, summary.groups) == (16, 2, 0, 2)
    assert summary.labels == {"astrocyte": 9, "oligodendrocyte": 7}
    assert cells.manifest["cell_id"].tolist()[8:10] == ["a_1d1.cif#8", "o_3d2.rif#0"]
    row = cells.manifest.iloc[11]
    assert (row["label"], row["group"], row["medium"], row["day"], row["run"]) == (
        "oligodendrocyte",
        "o_3d2",
        "o",
        "3",
        "2",
    )
    assert (row["path"], row["page"], row["object"], row["channel"]) == ("o_3d2.rif", 2, "2", "5")
    assert (row["bit_depth"], row["native_object"], row["native_acquired_object"]) == (16, 2, 106)
    assert (row["native_run"], row["native_instrument"], row["native_magnification"]) == ("o_3d2", "IS100-Lab", 40)
    assert (row["native_flow_speed"], row["native_brightfield_power_w"], row["native_camera_line"]) == (22.5, 0.5, 1014)
    assert row["native_background_mean"] == row["native_background_mean_5"] != row["native_background_mean_1"]
    assert np.isnan(row["native_background_mean_2"])
    for i, (pixels, _) in enumerate([*drawn(9, 1), *drawn(7, 2)]):
        native_crop = dataset.crop(cells.pixels[i], *cells.manifest.loc[i, ["height", "width"]])
        np.testing.assert_array_equal(native_crop, pixels[1])
        assert cells.manifest.loc[i, "mean"] == pytest.approx(pixels[1].mean(), rel=1e-5)


def test_what_masks_say_stands_beside_the_features(params, tmp_path):
    objects = drawn(4, 1)
    objects[1][1][1, 0, :5] = 3
    objects[2][1][1] = 0
    objects[3][1][1] = 1
    objects[0][1][0] = 0  # that of the other channel
    write(tmp_path / "data", "a_1d1.cif", objects)
    write(tmp_path / "data", "o_3d2.rif", drawn(2, 2), masks=False)
    ingest(params, tmp_path / "data", tmp_path / "cells")
    cells = dataset.load(tmp_path / "cells").manifest
    inside = [covered[1] > 0 for _, covered in objects]
    images = [pixels[1] for pixels, _ in objects]
    assert cells["native_mask_area"].tolist()[:4] == [int(covered.sum()) for covered in inside]
    assert cells["native_mask_clipped"].tolist()[:4] == [False, True, False, False]
    pairs = list(zip(images, inside, strict=True))
    outside = [np.nan if covered.all() else np.median(image[~covered]) for image, covered in pairs]
    np.testing.assert_allclose(cells["native_background_outside"][:4], outside)
    spread = [image[covered].std() if covered.any() else np.nan for image, covered in pairs]
    np.testing.assert_allclose(cells["native_mask_spread"][:4], spread, rtol=1e-4)
    of_masks = ["native_background_outside", "native_mask_area", "native_mask_spread", "native_mask_clipped"]
    assert cells.loc[4:, of_masks].isna().all().all()
    # What the network and an exported image know as well follows from the pixels alone.
    assert cells["background"][3] == pytest.approx(np.median(images[3][[0, -1]]), abs=3)


def test_a_damaged_mask_costs_no_cell(params, tmp_path):
    directories = native.parts(drawn(3, 1), xml=XML, runs=("a_1d1",))
    entries, stream = directories[4]
    directories[4] = entries, stream[:-2] + bytes([stream[-2], stream[-1] ^ 1])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a_1d1.cif").write_bytes(native.pack(directories))
    write(tmp_path / "data", "o_3d2.cif", drawn(3, 2))
    assert ingest(params, tmp_path / "data", tmp_path / "cells").cells == 6
    areas = dataset.load(tmp_path / "cells").manifest["native_mask_area"]
    assert areas.isna().tolist() == [False, True, False, False, False, False]


def test_nothing_of_people_reaches_the_cells(params, instrument, tmp_path):
    ingest(params, instrument, tmp_path / "cells")
    for path in (tmp_path / "cells").iterdir():
        if path.suffix != ".npy":
            text = str(pd.read_parquet(path).to_dict()) if path.suffix == ".parquet" else path.read_text()
            assert "Operator" not in text
            assert "ImageStream data" not in text


@pytest.mark.usefixtures("export")
def test_workers_and_sizes_of_ranges_change_nothing(make_params, instrument, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "FILES_PER_WORKER", 1)
    for workers, chunk in ((1, 128), (2, 4)):
        monkeypatch.setattr(stage, "CHUNK", chunk)
        ingest(make_params({"ingest.workers": workers}), instrument, tmp_path / f"cells{chunk}")
    one, other = (dataset.load(tmp_path / f"cells{chunk}") for chunk in (128, 4))
    pd.testing.assert_frame_equal(one.manifest, other.manifest)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert len(one) == 64
    assert one.manifest["native_run"].notna().sum() == 16
    assert one.manifest["path"].tolist() == sorted(one.manifest["path"])


def test_exports_of_ideas_say_how_they_were_acquired(params, export, tmp_path):
    for run, path in enumerate(sorted(export.glob("*_Ch1.ome.tif"))):
        if "_1d2_" not in path.name:
            pixels = tifffile.imread(path)
            tags = [(33003, "I", 1, run, True), (33016, "I", 1, 7 * run, True), (33012, "d", 1, 22.5, True)]
            path.write_bytes(tiff(pixels, extratags=tags, description="D:\\A. Person\\r1.rif", metadata=None))
    stage.ingest(params.dataset, params.ingest, export, tmp_path / "cells")
    manifest = dataset.load(tmp_path / "cells").manifest
    known = manifest[~manifest["path"].str.contains("_1d2_")]
    assert (len(manifest), len(known)) == (48, 32)
    assert known["native_camera_line"].tolist() == [7 * number for number in known["native_object"]]
    assert set(known["native_flow_speed"]) == {22.5}
    assert set(known["native_run"]) == {"r1"}
    assert manifest["native_run"].isna().sum() == 16, "images of another program say nothing"
    assert manifest["native_instrument"].isna().all()
    assert set(read_facts(manifest)) == {"camera_line", "flow_speed"}


def test_data_without_native_files_have_the_columns_of_before(params, export, tmp_path):
    ingest(params, export, tmp_path / "cells")
    assert not [name for name in dataset.load(tmp_path / "cells").manifest if name.startswith("native_")]


def test_labels_from_populations_that_are_called_like_classes(params, tmp_path, caplog):
    folder = tmp_path / "data"
    raw = write(folder, "any name.cif", drawn(20), runs=("the run",))
    listed = {"astrocyte": [3, 5, 7, 9], "NT3": [9, 11], "dead": [1, 2]}
    gated = {"N": (14, 16)}
    (folder / "tags.daf").write_bytes(native.analysis("ANY NAME.cif", 20, listed, gated, records_of(raw)))
    summary = ingest(params, folder, tmp_path / "cells")
    manifest = dataset.load(tmp_path / "cells").manifest
    # 9 is in two classes, and 1 and 2 in none.
    assert manifest["native_object"].tolist() == [3, 5, 7, 11, 14, 15, 16]
    assert manifest["label"].tolist() == ["astrocyte"] * 3 + ["NT3"] + ["RA/SHH"] * 3
    assert set(manifest["group"]) == {"the run"}
    assert set(manifest["medium"]) == {""}
    assert (summary.cells, summary.unmatched, summary.groups) == (7, 0, 1)
    assert "any name.cif: 13 of 20 objects are left out: they are in no population by hand" in caplog.text


def test_populations_win_over_the_path_and_others_leave_it(params, tmp_path):
    folder = tmp_path / "data"
    raw = write(folder, "a_1d1.cif", drawn(6))
    (folder / "a_1d1.daf").write_bytes(native.analysis("a_1d1.cif", 6, {"o": [1, 2]}, binary=records_of(raw)))
    assert ingest(params, folder, tmp_path / "cells").labels == {"oligodendrocyte": 2}
    (folder / "a_1d1.daf").write_bytes(native.analysis("a_1d1.cif", 6, {"dead": [1, 2]}, binary=records_of(raw)))
    assert ingest(params, folder, tmp_path / "cells").labels == {"astrocyte": 6}


@pytest.mark.parametrize(
    ("analysis", "words"),
    [
        (
            native.analysis("a_1d1.cif", 6, {"o": [1]}, binary=native.records(dict.fromkeys(range(6), 77))),
            r"a_1d1\.daf: is of another file called a_1d1\.cif",
        ),
        (native.analysis("a_1d1.cif", 7, {"o": [1]}), r"a_1d1\.daf: is of 7 objects, but a_1d1\.cif has 6"),
        (b"<Assay", r"a_1d1\.daf: an analysis file that cannot be read"),
    ],
)
def test_an_analysis_of_another_file_gives_no_labels(params, tmp_path, analysis, words):
    folder = tmp_path / "data"
    write(folder, "a_1d1.cif", drawn(6))
    (folder / "a_1d1.daf").write_bytes(analysis)
    with pytest.raises(DataError, match=words):
        ingest(params, folder, tmp_path / "cells")


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_analysis_that_the_pattern_matches_is_no_image(make_params, tmp_path, share):
    changes = {"pattern": "^(?P<medium>[^/]+)/(?P<run>[^/]+)/", "group": ["run"], "channels": None, "ranges": {}}
    params = make_params({f"dataset.{name}": value for name, value in changes.items()} | {"ingest.share": share})
    folder = tmp_path / "data"
    raw = write(folder / "a/1", "x.cif", drawn(6))
    daf = native.analysis("x.cif", 6, {"o": [0, 1, 2, 3]}, binary=records_of(raw))
    (folder / "a/1/x.daf").write_bytes(daf)
    for i in range(4):
        (folder / f"a/1/y{i}.tif").write_bytes(tiff(drawn(1, i)[0][0][1]))
    summary = ingest(params, folder, tmp_path / "cells")
    assert summary.refused == {}
    assert summary.labels == {"astrocyte": 4 * share, "oligodendrocyte": 4 * share}


def test_hand_tags_of_a_renamed_file_are_not_lost_silently(params, tmp_path):
    folder = tmp_path / "data"
    raw = write(folder, "a_1d1.cif", drawn(6))
    (folder / "a_1d1.daf").write_bytes(native.analysis("run 7.cif", 6, {"o": [1, 2]}, binary=records_of(raw)))
    with pytest.raises(DataError, match=r"a_1d1\.daf: is of run 7\.cif, which is not beside it; if a_1d1\.cif is that"):
        ingest(params, folder, tmp_path / "cells")
    write(folder, "run 7.cif", drawn(6))
    assert ingest(params, folder, tmp_path / "cells").labels == {"astrocyte": 6, "oligodendrocyte": 2}
    (folder / "run 7.cif").unlink()
    (folder / "a_1d1.daf").write_bytes(native.analysis("run 7.cif", 6, {"dead": [1, 2]}))
    assert ingest(params, folder, tmp_path / "cells").labels == {"astrocyte": 6}


@pytest.mark.parametrize("announced", [0, None])
def test_a_file_without_objects_is_told(params, tmp_path, announced):
    header = native.header(0, xml=XML)
    if announced is None:
        del header[33018]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a_1d1.cif").write_bytes(native.pack([(header, b"")]))
    with pytest.raises(DataError, match=r"a_1d1\.cif: holds no object; save it again"):
        ingest(params, tmp_path / "data", tmp_path / "cells")


def test_another_channel_than_that_of_the_settings_is_told_once(make_params, instrument, tmp_path, caplog):
    ingest(make_params({}), instrument, tmp_path / "cells")
    [told] = [record for record in caplog.records if "dataset.channels" in record.message]
    assert (
        "2 native files are read in another channel than dataset.channels says (1), such as a_1d1.cif in channel 5"
        in told.message
    )
    caplog.clear()
    ingest(make_params({"dataset.channels": {"5": "brightfield"}}), instrument, tmp_path / "again")
    assert "dataset.channels" not in caplog.text


def test_two_analyses_of_a_file_are_a_question(params, tmp_path):
    folder = tmp_path / "data"
    raw = write(folder, "a_1d1.cif", drawn(6))
    for name in ("one.daf", "two.daf"):
        (folder / name).write_bytes(native.analysis("a_1d1.cif", 6, {"o": [1]}, binary=records_of(raw)))
    with pytest.raises(DataError, match=r"a_1d1\.cif: one\.daf and two\.daf both say what is in it"):
        ingest(params, folder, tmp_path / "cells")
    (folder / "one.daf").rename(folder / "a_1d1.daf")
    assert ingest(params, folder, tmp_path / "cells").cells == 1


def test_a_file_without_a_class_is_listed_with_what_to_do(params, instrument, tmp_path):
    write(instrument, "unknown.cif", drawn(5))
    summary = ingest(params, instrument, tmp_path / "cells")
    assert (summary.cells, summary.unmatched) == (16, 1)
    [row] = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).to_dict("records")
    assert (row["path"], row["code"]) == ("unknown.cif", "name")
    assert "put the class into the path, or tag cells in IDEAS" in row["reason"]


def test_a_sidecar_says_the_class_of_a_file(params, tmp_path):
    folder = tmp_path / "data"
    write(folder, "x.cif", drawn(4), runs=("r",))
    write(folder, "a_1d1.cif", drawn(3, 5))
    (folder / "fatescope_labels.csv").write_text("path,label,group\nx.cif,NT3,mine\na_1d1.cif,RA/SHH,\n")
    ingest(params, folder, tmp_path / "cells")
    manifest = dataset.load(tmp_path / "cells").manifest
    assert manifest.groupby(["path", "label", "group"]).size().to_dict() == {
        ("a_1d1.cif", "RA/SHH", "a_1d1"): 3,
        ("x.cif", "NT3", "mine"): 4,
    }


@pytest.mark.parametrize(("runs", "group"), [(("r1", "r2"), "r1+r2"), ((), "a_1_1")])
def test_the_group_of_merged_files_and_of_those_that_name_no_run(params, tmp_path, runs, group):
    write(tmp_path / "data", "a_1d1.cif", drawn(3), runs=runs)
    ingest(params, tmp_path / "data", tmp_path / "cells")
    assert set(dataset.load(tmp_path / "cells").manifest["group"]) == {group}


def test_a_merged_file_beside_its_parts_is_told(params, tmp_path, caplog):
    for name, runs in (("a_1d1.cif", ("r1",)), ("a_1d2.cif", ("r1", "r2")), ("a_1d3.cif", ("r3",))):
        write(tmp_path / "data", name, drawn(3, seed=len(runs)), runs=runs)
    ingest(params, tmp_path / "data", tmp_path / "cells")
    told = "the acquisition 'r1' is in a_1d1.cif and in a_1d2.cif, which are different groups"
    assert told in caplog.text
    assert "'r2'" not in caplog.text
    assert told in describe(params.dataset, survey(params.dataset, tmp_path / "data"))


@pytest.mark.parametrize("path", ["a_1d1.cif", "x/A_1d1.CIF", "a_1d1/5.cif", "a_1d1_export.cif", "o/a_1d1/5.rif"])
def test_paths_are_read_as_those_of_exported_images(params, tmp_path, path):
    place = tmp_path / "data" / path
    write(place.parent, place.name, drawn(3))
    if "export" in path:
        with pytest.raises(DataError, match=r"dataset\.pattern does not match this path"):
            ingest(params, tmp_path / "data", tmp_path / "cells")
    else:
        assert ingest(params, tmp_path / "data", tmp_path / "cells").labels == {"astrocyte": 3}


@pytest.mark.parametrize(
    ("preset", "path"),
    [("ideas", "a_1d1/run.cif"), ("ideas", "a_1d1.cif"), ("jurkat_ifc", "jurkat/G1/day_2.cif")],
)
def test_patterns_of_presets_read_native_files(make_params, tmp_path, preset, path):
    content = get_preset(preset).values()["dataset"]
    params = make_params({f"dataset.{name}": value for name, value in content.items()})
    place = tmp_path / "data" / path
    write(place.parent, place.name, drawn(3))
    assert ingest(params, tmp_path / "data", tmp_path / "cells").cells == 3


def test_a_share_of_the_objects(make_params, instrument, tmp_path):
    summary = ingest(make_params({"ingest.share": 0.5}), instrument, tmp_path / "cells")
    assert (summary.cells, summary.left_out) == (8, 8)
    assert summary.labels == {"astrocyte": 4, "oligodendrocyte": 4}


def test_damaged_objects_are_refused_and_the_others_kept(make_params, instrument, tmp_path):
    directories = native.parts(drawn(10, 3), masks=False, xml=XML, runs=("n_1d1",))
    directories[4][0][279] = (4, [7])
    directories[6][0][257] = (4, [500])
    (instrument / "n_1d1.cif").write_bytes(native.pack(directories))
    large = native.draw_objects(2, (1, 5), 4, (90, 44))
    write(instrument, "n_1d2.cif", large)
    summary = ingest(make_params(HERE), instrument, tmp_path / "cells")
    assert summary.cells == 24
    assert summary.refused == {"truncated": 2, "too_large": 2}
    quarantine = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).set_index("path")
    assert list(quarantine.index) == ["n_1d1.cif#3", "n_1d1.cif#5", "n_1d2.cif#0", "n_1d2.cif#1"]
    assert "do not fit the canvas of 60x80 px" in quarantine.loc["n_1d2.cif#0", "reason"]


def test_objects_of_a_truncated_file_count_as_refused(make_params, instrument, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 4)
    raw = write(instrument, "n_1d1.cif", drawn(10, 3))
    file = NativeFile(io.BytesIO(raw), "x")
    (instrument / "n_1d1.cif").write_bytes(raw[: list(file.places())[6].offset])
    summary = ingest(make_params(HERE), instrument, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (22, {"truncated": 4})
    [row] = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).to_dict("records")
    assert row["path"] == "n_1d1.cif"
    assert "the objects from number 6 on of 10 cannot be found" in row["reason"]


def test_a_file_that_announces_too_many_or_too_few_objects(make_params, instrument, tmp_path):
    for name, count in (("n_1d1.cif", 4_000_000_000), ("n_1d2.cif", 3)):
        directories = native.parts(drawn(5, 3), xml=XML)
        directories[0][0][33018] = (4, [count])
        (instrument / name).write_bytes(native.pack(directories))
    summary = ingest(make_params(HERE), instrument, tmp_path / "cells")
    assert (summary.cells, summary.unreadable, summary.refused) == (19, 1, {"truncated": 1})
    reasons = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).set_index("path")["reason"]
    assert "announces 4,000,000,000 objects in" in reasons["n_1d1.cif"]
    assert "holds more than the 3 objects that it announces" in reasons["n_1d2.cif"]


def test_a_file_that_changes_while_it_is_read_costs_its_own_objects(make_params, instrument, tmp_path, monkeypatch):
    genuine, calls = native_reader.NativeFile, []

    def vanishing(raw, path, *window):
        calls.append(path)
        if path == "o_3d2.rif":
            raise OSError("gone")
        return genuine(raw, path, *window)

    monkeypatch.setattr(native_reader, "NativeFile", vanishing)
    with pytest.raises(DataError, match=r"7 of 16 files were refused"):
        ingest(make_params({"ingest.workers": 1}), instrument, tmp_path / "cells")
    assert calls


@pytest.mark.slow
def test_objects_that_end_the_process_cost_their_range(make_params, instrument, tmp_path, monkeypatch):
    write(instrument, "n_1d1.cif", drawn(8, 3))
    monkeypatch.setattr(stage, "FILES_PER_WORKER", 1)
    monkeypatch.setattr(stage, "CHUNK", 4)
    monkeypatch.setattr(stage, "Reader", Fragile)
    summary = ingest(make_params({"ingest.workers": 2, **HERE}), instrument, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (20, {"unreadable": 4})
    [row] = pd.read_parquet(tmp_path / "cells" / dataset.QUARANTINE).to_dict("records")
    assert row["path"] == "n_1d1.cif"
    assert "n_1d1.cif: reading it ended the process" in row["reason"]


def test_mixed_with_exported_images(params, instrument, tmp_path):
    pixels = drawn(1)[0][0][1]
    (instrument / "a_1d1_7_Ch1.ome.tif").write_bytes(tiff(pixels))
    ingest(params, instrument, tmp_path / "cells")
    manifest = dataset.load(tmp_path / "cells").manifest.set_index("cell_id")
    assert pd.isna(manifest.loc["a_1d1_7_Ch1.ome.tif", "native_run"])
    assert np.isnan(manifest.loc["a_1d1_7_Ch1.ome.tif", "native_flow_speed"])
    assert manifest.loc["a_1d1.cif#3", "native_flow_speed"] == 22.5


def test_the_real_file(make_params, tmp_path):
    path = SHARED / "eosinophil.cif"
    if not path.exists():
        pytest.skip(f"the real file is not here: {path}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a_1d1.cif").symlink_to(path)
    summary = ingest(make_params({}), tmp_path / "data", tmp_path / "cells")
    manifest = dataset.load(tmp_path / "cells").manifest
    assert (summary.cells, summary.refused) == (111, {})
    assert set(manifest["group"]) == {"SAMPLE1-1 treated time 5h_8"}
    assert set(manifest["channel"]) == {"5"}
    assert manifest["background"].between(220, 228).all()
    assert (manifest["background"] - manifest["native_background_mean"]).abs().max() < 5
