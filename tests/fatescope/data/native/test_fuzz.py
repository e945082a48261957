"""Drawn damage of native files, as of images: nothing but ImageError, or DataError of a .daf, leaves their readers."""

import tracemalloc

import pytest
from hypothesis import given

from fatescope.data.native.objects import NativeObject
from tests.support import damage, fuzzing, targets

WHOLE = targets.NATIVE | targets.ANALYSES
MAX_MEMORY = 20e6
"""Bytes that reading a file of a few thousand may take."""


def read(raw):
    """Read what a file holds in each way that there is, the damaged objects as reasons."""
    tracemalloc.start()
    try:
        cells = [*targets.read_objects(raw), *targets.read_populations(raw)]
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()
    return cells


def test_whole_files_are_read():
    assert [sum(isinstance(cell, NativeObject) for cell in read(WHOLE[kind])) for kind in ("CIF", "RIF")] == [3, 3]
    assert len(targets.read_populations(WHOLE["DAF"])) == 2


@pytest.mark.parametrize("path", fuzzing.corpus("native"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    assert read(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(WHOLE))
@fuzzing.settings(150)
def test_damaged_files_are_read_or_refused(raw):
    with fuzzing.kept(raw, "native"):
        read(raw)
