import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from fatescope.data import paths
from fatescope.data.export_folder import list_files
from fatescope.errors import DataError
from pipelines.commands import import_data
from pipelines.ingestion import archive as archive_module
from pipelines.ingestion.survey import describe, survey
from tests.support import native, zips
from tests.support.images import tiff, typical
from tests.support.project import ROOT, SHARED


def listed(folder):
    return sorted(list_files(folder))


def zipped(folder, target, extra=()):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in list_files(folder):
            archive.write(folder / path, f"export/{path}")
        for name, content in extra:
            archive.writestr(name, content)
    return target


@pytest.fixture
def source(export):
    """An export, under a name that is not that of the data folder."""
    return export.rename(export.with_name("from_the_lab"))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data"


def test_a_folder_is_adopted_and_told(params, source, target):
    (source / "notes.txt").write_text("")
    (source / "a_1d_Ch1.tif").write_text("")
    (source / "x_1d1_7_Ch1.ome.tif").write_text("")
    found = import_data.import_export(params.dataset, source, target)
    assert listed(target) == listed(source)
    assert json.loads((target / "origin.json").read_text()) == {
        "origin": "adopted",
        "sources": [{"name": "from_the_lab", "files": 99}],
        "groups": ["a_1_1", "a_1_2", "a_1_3", "o_1_1", "o_1_2", "o_1_3", "x_1_1"],
    }
    text = describe(params.dataset, found)
    assert "49 cells in 7 groups" in text
    assert "files by channel: 1: 49, 2: 48; the model sees channel 1" in text
    assert "dataset.classes does not list x (1)" in text
    assert "dataset.pattern does not match 2 files" in text
    assert "a_1d_Ch1.tif: fits dataset.pattern up to" in text
    assert text.split() == describe(params.dataset, survey(params.dataset, target)).split()
    assert not target.with_name("data.part").exists()


def test_links_that_lead_nowhere_or_round_are_left_out_and_named(params, source, target, caplog):
    before = listed(source)
    (source / "a_1d1_90_Ch1.ome.tif").symlink_to("nowhere.tif")
    (source / "round").symlink_to(source)
    (source / os.fsdecode(b"a_1d1_91_\xe9_Ch1.ome.tif")).write_text("")
    import_data.import_export(params.dataset, source, target)
    assert listed(target) == before
    assert "3 paths are left out" in caplog.text
    assert "a_1d1_90_Ch1.ome.tif: a link to 'nowhere.tif', which is not there" in caplog.text
    assert r"a_1d1_91_\xe9_Ch1.ome.tif: the name is not UTF-8" in caplog.text


@pytest.mark.parametrize("place", ["elsewhere", "nowhere"])
def test_a_data_folder_that_is_a_link_is_refused(params, source, target, place):
    (source.parent / "elsewhere").mkdir()
    target.symlink_to(place)
    with pytest.raises(DataError, match=f"data: is a link to {place}, of which DVC makes no version"):
        import_data.import_export(params.dataset, source, target)
    assert target.is_symlink()
    assert not list((source.parent / "elsewhere").iterdir())


def test_a_data_folder_that_is_a_mount_is_refused(params, source, target, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == target)
    with pytest.raises(DataError, match="data: is a mount, which cannot be replaced"):
        import_data.import_export(params.dataset, source, target)


def test_a_source_that_is_a_link_to_itself_is_an_error(params, target, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop: neither a folder nor a zip"):
        import_data.import_export(params.dataset, tmp_path / "loop", target)


def test_a_zip_is_adopted_without_what_the_system_added(params, source, target, tmp_path):
    extra = [("__MACOSX/a_1d1_0_Ch1.ome.tif", ""), ("export/.DS_Store", "")]
    found = import_data.import_export(params.dataset, zipped(source, tmp_path / "lab.zip", extra), target)
    assert listed(target) == [f"export/{path}" for path in listed(source)]
    assert sum(found.cells.values()) == 48


def test_a_zip_from_windows_keeps_its_folders(params, target, tmp_path):
    entry = zipfile.ZipInfo("x")
    entry.filename = "samples\\a_1d1_0_Ch1.ome.tif"
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        archive.writestr(entry, "x")
    import_data.import_export(params.dataset, tmp_path / "lab.zip", target)
    assert listed(target) == ["samples/a_1d1_0_Ch1.ome.tif"]


@pytest.mark.parametrize(
    "name", ["../a_1d1_0_Ch1.ome.tif", "/a_1d1_0_Ch1.ome.tif", "a/../../b_1d1_0_Ch1.ome.tif", "C:/b", "..\\b"]
)
def test_a_zip_that_leads_elsewhere_is_refused(params, source, target, tmp_path, name):
    archive = zipped(source, tmp_path / "lab.zip", [(name, "x")])
    with pytest.raises(DataError, match="leads out of the zip"):
        import_data.import_export(params.dataset, archive, target)
    assert not target.exists()


def test_a_zip_bomb_is_refused(params, target, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_1d1_0_Ch1.ome.tif", bytes(50_000_000))
    with pytest.raises(DataError, match="would expand to 50,000,000 bytes"):
        import_data.import_export(params.dataset, tmp_path / "bomb.zip", target)


def test_a_damaged_zip_is_refused(params, source, target, tmp_path):
    archive = zipped(source, tmp_path / "lab.zip")
    raw = bytearray(archive.read_bytes())
    raw[200] ^= 255
    archive.write_bytes(raw)
    with pytest.raises(DataError, match=r"lab\.zip: cannot be unpacked"):
        import_data.import_export(params.dataset, archive, target)
    assert list(target.parent.glob("data*")) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_path_twice_is_refused(params, source, target, tmp_path):
    archive = zipped(source, tmp_path / "lab.zip", [("export/a_1d1_0_Ch1.ome.tif", "other")])
    with pytest.raises(DataError, match=r"holds 'export/a_1d1_0_Ch1\.ome\.tif' twice"):
        import_data.import_export(params.dataset, archive, target)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("inner.zip", r"lab\.zip: 'inner\.zip' is a zip in a zip; unpack it first"),
        ("b_1d1_0_Ch1.ome.tif", r"lab\.zip: 'b_1d1_0_Ch1\.ome\.tif' is encrypted; create the zip without a password"),
    ],
)
def test_a_zip_with_an_entry_that_cannot_be_read_is_refused(params, target, tmp_path, name, reason):
    whole = zips.archive([("a_1d1_0_Ch1.ome.tif", b"x"), (name, b"x")])
    (tmp_path / "lab.zip").write_bytes(whole if name == "inner.zip" else zips.encrypted(whole, name))
    with pytest.raises(DataError, match=reason):
        import_data.import_export(params.dataset, tmp_path / "lab.zip", target)
    assert not target.exists()


@pytest.mark.parametrize("prefix", [b"MZ" + bytes(500), b""])
def test_a_zip_is_read_whatever_comes_before_it_and_in_any_code_page(params, target, tmp_path, prefix):
    name = "Größe\\a_1d1_0_Ch1.ome.tif".encode("cp437")
    (tmp_path / "lab.exe").write_bytes(zips.archive([(name, b"x"), ("s/Thumbs.db", b"x")], prefix))
    import_data.import_export(params.dataset, tmp_path / "lab.exe", target)
    assert listed(target) == ["Größe/a_1d1_0_Ch1.ome.tif"]


@pytest.mark.parametrize(
    ("case", "files"),
    [
        ("zip_prepended", ["s/a_1d1_3_Ch1.ome.tif"]),
        ("zip_with_system_files", ["s/a_1d1_3_Ch1.ome.tif", "s/export.txt"]),
    ],
)
def test_zips_that_the_service_reads_are_imported(params, target, case, files):
    path = SHARED / "cases" / f"{case}.zip"
    if not path.exists():
        pytest.skip(f"the failing cases are not here: {path}")
    import_data.import_export(params.dataset, path, target)
    assert listed(target) == files


def test_folders_are_read_without_what_the_system_added(params, source, target):
    before = listed(source)
    for name in ("Thumbs.db", "desktop.ini", "~$notes.docx", "__MACOSX/a_1d1_0_Ch1.ome.tif", "._a_1d1_0_Ch1.ome.tif"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("x")
    counts = import_data.import_export(params.dataset, source, target)
    assert sum(counts.cells.values()) == 48
    assert counts.unmatched == []
    assert listed(target) == before
    assert not (target / "Thumbs.db").exists()


def labels(folder, **rows):
    """Write a sidecar of path → (label, group); `__` in a name of a keyword is a slash."""
    lines = [f"{path.replace('__', '/')}.ome.tif,{label},{group}\n" for path, (label, group) in rows.items()]
    (folder / "fatescope_labels.csv").write_text("path,label,group\n" + "".join(lines), encoding="utf-8-sig")


def test_a_sidecar_says_the_class_and_keeps_the_group(params, source, target):
    labels(source, a_1d1_0_Ch1=("oligodendrocyte", ""), o_1d1_0_Ch1=("astrocyte", "a_1_3"))
    counts = import_data.import_export(params.dataset, source, target)
    assert counts.cells["oligodendrocyte", "a_1_1"] == 1
    assert counts.cells["astrocyte", "a_1_1"] == 7
    assert counts.cells["astrocyte", "a_1_3"] == 9
    assert not counts.unlisted
    assert "fatescope_labels.csv" not in listed(target)
    assert survey(params.dataset, target).cells == counts.cells
    assert json.loads((target / "origin.json").read_text())["sources"] == [{"name": "from_the_lab", "files": 96}]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_sidecars_of_several_imports_are_one_and_the_later_word_counts(params, source, target, tmp_path, kind):
    import_data.import_export(params.dataset, source, target)
    for number, name in enumerate(("oligodendrocyte", "RA/SHH")):
        lab = tmp_path / f"feedback{number}"
        (lab / "12ab").mkdir(parents=True)
        (lab / "12ab" / "a_1d1_0_Ch1.ome.tif").write_bytes(tiff(typical(0)))
        labels(lab, **{"12ab__a_1d1_0_Ch1": (name, "a_1_1"), f"12ab__x{number}": ("NT3", "")})
        if kind == "zip":
            with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
                for path in sorted(file for file in lab.rglob("*") if file.is_file()):
                    archive.write(path, path.relative_to(lab))
            lab = tmp_path / f"{number}.zip"
        import_data.import_export(params.dataset, lab, target)
        counts = survey(params.dataset, target)
        assert counts.cells[name, "a_1_1"] == 1
        assert counts.cells["astrocyte", "a_1_1"] == 8
    text = (target / "fatescope_labels.csv").read_text().splitlines()
    assert text == [
        "path,label,group",
        "12ab/a_1d1_0_Ch1.ome.tif,RA/SHH,a_1_1",
        "12ab/x0.ome.tif,NT3,",
        "12ab/x1.ome.tif,NT3,",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;label;group\na;b;c\n", r"fatescope_labels\.csv: has no column path, label, group"),
        ("path,label,group\na.tif,,\n", r"the row of 'a\.tif' lacks a path or a label"),
    ],
)
def test_a_damaged_sidecar_says_what_to_do(params, source, target, text, message):
    (source / "fatescope_labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        import_data.import_export(params.dataset, source, target)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["folder", "parent", "zip"])
def test_simulated_cells_are_never_adopted(params, source, target, tmp_path, kind):
    (source / "origin.json").write_text('{"origin": "simulated"}')
    export = {"folder": source, "parent": shutil.copytree(source, tmp_path / "parent" / "in").parent}.get(kind)
    if export is None:
        export = zipped(source, tmp_path / "lab.zip", [("export/origin.json", '{"origin": "simulated"}')])
    with pytest.raises(DataError, match="holds simulated cells, which never mix with real ones"):
        import_data.import_export(params.dataset, export, target)
    assert not target.exists()


@pytest.mark.parametrize("place", ["data", ".", "data/day5"])
def test_the_data_folder_is_not_adopted_into_itself(params, source, target, tmp_path, place):
    shutil.copytree(source, target / "day5")
    with pytest.raises(DataError, match="name a folder or zip elsewhere"):
        import_data.import_export(params.dataset, tmp_path / place, target)


def test_simulated_cells_are_replaced_and_real_ones_added_to(params, source, target, tmp_path):
    target.mkdir()
    (target / "origin.json").write_text('{"origin": "simulated"}')
    (target / "o_5d9_1_Ch1.ome.tif").write_text("simulated")
    import_data.import_export(params.dataset, source, target)
    assert listed(target) == listed(source)
    more = tmp_path / "more"
    shutil.copytree(source, more / "day5")
    import_data.import_export(params.dataset, more, target)
    assert len(listed(target)) == 2 * len(listed(source))
    assert [each["name"] for each in json.loads((target / "origin.json").read_text())["sources"]] == [
        "from_the_lab",
        "more",
    ]


def test_groups_are_recorded_in_the_order_of_their_import(params, source, target, tmp_path):
    def groups():
        return json.loads((target / "origin.json").read_text())["groups"]

    # Cells that were put there by hand have no record, and are taken by the names of their groups.
    shutil.copytree(source, target)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for name in ("o_1d0_1_Ch1.ome.tif", "a_0d9_1_Ch1.ome.tif", "a_1d1_99_Ch1.ome.tif"):
        (earlier / name).write_text(name)
    import_data.import_export(params.dataset, earlier, target)
    before = sorted({"_".join(path.split("_")[:2]).replace("d", "_") for path in listed(source)} & set(groups()))
    assert len(before) >= 6
    assert groups() == [*before, "a_0_9", "o_1_0"]
    (earlier / "a_0d1_1_Ch1.ome.tif").write_text("later")
    import_data.import_export(params.dataset, earlier, target)
    assert groups() == [*before, "a_0_9", "o_1_0", "a_0_1"]


def test_an_export_that_is_there_already_changes_nothing(params, source, target):
    import_data.import_export(params.dataset, source, target)
    before = (target / "origin.json").read_text()
    import_data.import_export(params.dataset, source, target)
    assert (target / "origin.json").read_text() == before
    (source / "o_9d1_1_Ch1.ome.tif").write_text("one more")
    import_data.import_export(params.dataset, source, target)
    assert json.loads((target / "origin.json").read_text())["sources"][1] == {"name": "from_the_lab", "files": 1}
    assert listed(target) == listed(source)


def test_a_file_is_never_changed(params, source, target):
    import_data.import_export(params.dataset, source, target)
    (source / "a_1d1_0_Ch1.ome.tif").write_text("other")
    before = {path: (target / path).read_bytes() for path in listed(target)}
    with pytest.raises(DataError, match=r"1 file, such as a_1d1_0_Ch1\.ome\.tif, is in .* with other content"):
        import_data.import_export(params.dataset, source, target)
    assert {path: (target / path).read_bytes() for path in listed(target)} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset.pattern": r"(?P<medium>x)_(?P<day>\d)_(?P<run>\d)_(?P<channel>\d)"},
            "matches none of the 96 files; change it",
        ),
        ({"dataset.channels": {"9": "brightfield"}}, r"no file has channel '9', but there are \{'1': 48, '2': 48\}"),
    ],
)
def test_an_export_without_cells_changes_nothing(make_params, source, target, changes, message):
    target.mkdir()
    (target / "origin.json").write_text('{"origin": "simulated"}')
    with pytest.raises(DataError, match=message):
        import_data.import_export(make_params(changes).dataset, source, target)
    assert (target / "origin.json").exists()
    assert not target.with_name("data.part").exists()


def snapshot(folder):
    return {path: (folder / path).read_bytes() for path in [*listed(folder), "origin.json"]}


@pytest.mark.parametrize("step", ["survey", "is_simulated", "replace_folder"])
@pytest.mark.parametrize("origin", ["simulated", "adopted"])
def test_an_interruption_leaves_the_data_as_it_was(params, source, target, monkeypatch, step, origin):
    target.mkdir()
    (target / "origin.json").write_text(json.dumps({"origin": origin}))
    (target / "o_5d9_1_Ch1.ome.tif").write_text("there before")
    before = snapshot(target)
    monkeypatch.setattr(import_data, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        import_data.import_export(params.dataset, source, target)
    assert snapshot(target) == before
    assert sorted(path.name for path in target.parent.glob("*data*")) == ["data"]


def test_an_interruption_between_the_renames_leaves_the_data_as_it_was(params, source, target, monkeypatch):
    target.mkdir()
    (target / "origin.json").write_text('{"origin": "simulated"}')
    rename, calls = type(target).rename, []

    def interrupted(path, new):
        calls.append(path.name)
        if path.name == "data.part":
            raise KeyboardInterrupt
        return rename(path, new)

    monkeypatch.setattr(type(target), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_data.import_export(params.dataset, source, target)
    assert calls == ["data", "data.part", ".data.replaced"]
    assert (target / "origin.json").read_text() == '{"origin": "simulated"}'


def test_what_a_killed_run_left_is_put_right(params, source, target):
    import_data.import_export(params.dataset, source, target)
    before = snapshot(target)
    target.rename(target.with_name(".data.replaced"))  # where a kill between the renames leaves it
    shutil.copytree(source, target.with_name("data.part"))
    import_data.import_export(params.dataset, source, target)
    assert snapshot(target) == before
    assert sorted(path.name for path in target.parent.glob("*data*")) == ["data"]


@pytest.mark.parametrize(("there", "new"), [("sub", "sub/a_1d1_0_Ch1.ome.tif"), ("sub/x", "sub")])
def test_a_file_where_a_folder_is_changes_nothing(params, target, tmp_path, there, new):
    for folder, path in ((target, there), (tmp_path / "lab", new)):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("x")
    (tmp_path / "lab" / "a_1d1_1_Ch1.ome.tif").write_text("x")
    with pytest.raises(DataError, match=r"1 file, such as sub.*with other content"):
        import_data.import_export(params.dataset, tmp_path / "lab", target)
    assert listed(target) == [there]


def test_native_files_that_cannot_be_read_are_named_with_the_reason(params, source, target, tmp_path):
    raw = tmp_path / "run.CIF"
    raw.write_bytes(b"raw")
    with pytest.raises(DataError, match=r"run\.CIF: a raw file of an Amnis instrument .*header cannot be read"):
        import_data.import_export(params.dataset, raw, target)
    with pytest.raises(DataError, match=r"run\.CIF: a raw file of an Amnis instrument"):
        archive_module.unpack(raw, tmp_path)
    (tmp_path / "instrument").mkdir()
    shutil.copyfile(raw, tmp_path / "instrument" / "run.cif")
    (tmp_path / "instrument" / "run.daf").write_bytes(b"<Assay>")
    packed = zipped(tmp_path / "instrument", tmp_path / "instrument.zip")
    for holder in (tmp_path / "instrument", packed):
        with pytest.raises(DataError, match=r"run\.cif: a raw file .*header cannot be read"):
            import_data.import_export(params.dataset, holder, target)
    shutil.copyfile(raw, source / "run.cif")
    survey_of_all = import_data.import_export(params.dataset, source, target)
    text = describe(params.dataset, survey_of_all)
    assert "1 native file gives no cells:\n  run.cif: a raw file of an Amnis instrument" in text


def test_a_source_that_is_not_there_is_not_one_of_another_kind(params, target, tmp_path):
    with pytest.raises(DataError, match="feedback: not there; name the folder or zip of an export"):
        import_data.import_export(params.dataset, tmp_path / "feedback", target)


def test_what_is_neither_folder_nor_zip(params, target):
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        import_data.import_export(params.dataset, ROOT / "Makefile", target)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a_1d1_3_Ch1.tif", r"but not the rest, 'o"),
        ("a_1d1_Ch1.ome.tif", r"up to '.*run.*_', but not the rest"),
        ("a_day1_3_Ch1.ome.tif", r"up to '.*medium.*day.*', but not the rest, 'd"),
        ("???", "fits no part of dataset.pattern"),
    ],
)
def test_the_nearest_reason(params, path, reason):
    assert re.search(reason, paths.PatternDiagnostics(params.dataset.pattern).reason(path))


def test_one_native_file_is_imported_with_its_analysis(params, target, tmp_path):
    lab = tmp_path / "lab"
    lab.mkdir()
    raw = native.native(native.draw_objects(6))
    (lab / "Run 7.CIF").write_bytes(raw)
    (lab / "tags.daf").write_bytes(native.analysis("run 7.cif", 6, listed={"NT3": [1, 2, 5]}))
    (lab / "other.daf").write_bytes(native.analysis("other.cif", 6, listed={"NT3": [1]}))
    (lab / "other.cif").write_bytes(raw)
    counts = import_data.import_export(params.dataset, lab / "Run 7.CIF", target)
    assert listed(target) == ["Run 7.CIF", "tags.daf"]
    assert dict(counts.cells) == {("NT3", "run1"): 3}
    assert json.loads((target / "origin.json").read_text())["groups"] == ["run1"]
    assert "3 cells in 1 group" in describe(params.dataset, counts)
    assert "3 objects of native files are left out: they are in no population" in describe(params.dataset, counts)


def test_a_folder_of_native_files_beside_images(params, source, target):
    before = sum(import_data.import_export(params.dataset, source, target).cells.values())
    (source / "a_3d4.rif").write_bytes(native.native(native.draw_objects(6), masks=False, runs=("a_3d4",)))
    (source / "strange.cif").write_bytes(native.native(native.draw_objects(6)))
    counts = import_data.import_export(params.dataset, source, target)
    assert sum(counts.cells.values()) == before + 6
    assert counts.cells["astrocyte", "a_3d4"] == 6
    assert "1 native file gives no cells:\n  strange.cif: dataset.pattern does not match" in describe(
        params.dataset, counts
    )
