"""Nothing but DataError leaves the reader of a zip that is imported, and nothing is written outside its folder."""

import pytest
from hypothesis import given

from tests.support import damage, fuzzing
from tests.support.targets import ARCHIVES, unpack_export


def test_whole_archives_are_read():
    for raw in ARCHIVES.values():
        assert sorted(path.name for path in unpack_export(raw)) == ["a_1d1_1_Ch1.ome.tif", "b.png"]


@pytest.mark.parametrize("path", fuzzing.corpus("archives"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    unpack_export(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(ARCHIVES))
@fuzzing.settings(300)
def test_damaged_archives_are_read_or_refused(raw):
    with fuzzing.kept(raw, "archives"):
        unpack_export(raw)


@pytest.mark.fuzz
@given(names=damage.odd_names())
@fuzzing.settings(100)
def test_odd_names_are_read_or_refused(names):
    raw = damage.archive(dict.fromkeys(names, b"some bytes"))
    with fuzzing.kept(raw, "archives"):
        unpack_export(raw)
