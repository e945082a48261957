"""Nothing but DataError leaves the reader of a zip that is imported, and nothing is written outside its folder."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from fatescope.errors import DataError
from pipelines.ingestion import archive
from tests.support import damage, fuzzing

WHOLE = damage.zips(damage.SMALL)


def unpack(raw):
    """Unpack a zip in a folder of its own; return the files there, or None if it was refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "export.zip").write_bytes(raw)
        try:
            count = archive.unpack(folder / "export.zip", folder / "unpacked" / "here")
        except DataError:
            count = None
        assert {path.name for path in folder.iterdir()} <= {"export.zip", "unpacked"}, "nothing leads out of the folder"
        if (folder / "unpacked").exists():
            assert [path.name for path in (folder / "unpacked").iterdir()] == ["here"]
        if count is None:
            return None
        found = [path for path in (folder / "unpacked").rglob("*") if path.is_file() and path.name != "origin.json"]
        assert len(found) == count
        return found


def test_whole_archives_are_read():
    for raw in WHOLE.values():
        assert sorted(path.name for path in unpack(raw)) == ["a_1d1_1_Ch1.ome.tif", "b.png"]


@pytest.mark.parametrize("path", fuzzing.corpus("archives"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    unpack(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(WHOLE))
@fuzzing.settings(300)
def test_damaged_archives_are_read_or_refused(raw):
    with fuzzing.kept(raw, "archives"):
        unpack(raw)


@pytest.mark.fuzz
@given(names=damage.odd_names())
@fuzzing.settings(100)
def test_odd_names_are_read_or_refused(names):
    raw = damage.archive(dict.fromkeys(names, b"some bytes"))
    with fuzzing.kept(raw, "archives"):
        unpack(raw)
