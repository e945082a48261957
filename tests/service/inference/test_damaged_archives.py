"""Nothing but ImageError and RequestError leaves the reader of requests, whatever the archive."""

import io

import pytest
from hypothesis import given

from service.inference import files
from service.inference.errors import RequestError
from service.inference.files import OtherChannel, RejectedFile, Upload
from tests.support import damage, fuzzing

WHOLE = damage.zips(damage.SMALL)


def unpack(raw):
    """Return what is in an archive, or None if the request was refused."""
    try:
        found = list(files.unpack([("cells.zip", io.BytesIO(raw))], lambda name: "_Ch4." in name))
    except RequestError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.status_code in {400, 413}
        return None
    assert all(isinstance(file, Upload | RejectedFile | OtherChannel) for file in found)
    for file in found:
        # As JSON, in the answer.
        file.name.encode()
        if isinstance(file, RejectedFile):
            assert file.error.code in {"zip", "too_large"}
            str(file.error).encode()
    return found


def test_whole_archives_are_read():
    for raw in WHOLE.values():
        assert [(type(file), file.name) for file in unpack(raw)] == [
            (Upload, "a_1d1_1_Ch1.ome.tif"),
            (Upload, "run/b.png"),
        ]


@pytest.mark.parametrize("path", fuzzing.corpus("archives"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    unpack(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(WHOLE))
@fuzzing.settings(600)
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
