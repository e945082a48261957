"""Where sidecars are sought in the folder of an export, and which of them counts."""

import unicodedata

import pytest

from fatescope.data.export_folder import list_files, read_labels
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import LABELS, Label
from fatescope.errors import DataError


def test_the_sidecar_that_is_nearer_to_an_image_counts_and_windows_may_have_written_it(tmp_path):
    (tmp_path / "run" / ".hidden").mkdir(parents=True)
    for folder, rows in ((".", "run\\a.tif,x,1\nb.tif,y,\n"), ("run", "a.tif,z,2\n"), ("run/.hidden", "a.tif,w,3\n")):
        (tmp_path / folder / LABELS).write_text(f"path,label,group\n{rows}")
    assert read_labels(tmp_path) == {"run/a.tif": Label("z", "2"), "b.tif": Label("y", "")}


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("path,label,group\nGröße.tif,NT3,x\n".encode("latin-1"), "save it as CSV in UTF-8"),
        (b'path,label,group\n"a"b.tif,NT3,x\n', "save it as CSV in UTF-8"),
        (b'path,label,group\n"a.tif,NT3,x\n', "save it as CSV in UTF-8"),
        (b"path;label;group\na.tif;NT3;x\n", "has no column path, label, group"),
        (b"path,label,group\na.tif,,x\n", r"the row of 'a\.tif' lacks a path or a label"),
    ],
    ids=["Latin-1", "text behind a quote", "quote without an end", "semicolons", "no label"],
)
def test_a_sidecar_that_cannot_be_read_says_what_to_do(tmp_path, raw, problem):
    (tmp_path / LABELS).write_bytes(raw)
    with pytest.raises(DataError, match=problem) as caught:
        read_labels(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / LABELS))


def test_sidecars_are_sought_where_images_are_behind_links_and_in_names_of_a_mac(params, tmp_path):
    elsewhere = tmp_path / "elsewhere" / unicodedata.normalize("NFD", "zellkühlung")
    elsewhere.mkdir(parents=True)
    name = unicodedata.normalize("NFD", "ü_a_1d2_1_Ch1.ome.tif")
    (elsewhere / name).write_bytes(b"")
    (elsewhere / LABELS).write_text(f"path,label,group\n{name},NT3,x\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    [path] = list_files(tmp_path / "data")
    parsed = PathParser(params.dataset, read_labels(tmp_path / "data")).read(path)
    assert (parsed.label, parsed.group) == ("NT3", "x")
