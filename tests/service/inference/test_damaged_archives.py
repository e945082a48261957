"""Nothing but ImageError and RequestError leaves the reader of requests, whatever the archive."""

import pytest
from hypothesis import given

from service.inference.files import Upload
from tests.support import damage, fuzzing
from tests.support.targets import ARCHIVES, unpack_request


def test_whole_archives_are_read():
    for raw in ARCHIVES.values():
        assert [(type(file), file.name) for file in unpack_request(raw)] == [
            (Upload, "a_1d1_1_Ch1.ome.tif"),
            (Upload, "run/b.png"),
        ]


@pytest.mark.parametrize("path", fuzzing.corpus("archives"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    unpack_request(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(ARCHIVES))
@fuzzing.settings(600)
def test_damaged_archives_are_read_or_refused(raw):
    with fuzzing.kept(raw, "archives"):
        unpack_request(raw)


@pytest.mark.fuzz
@given(names=damage.odd_names())
@fuzzing.settings(100)
def test_odd_names_are_read_or_refused(names):
    raw = damage.archive(dict.fromkeys(names, b"some bytes"))
    with fuzzing.kept(raw, "archives"):
        unpack_request(raw)
