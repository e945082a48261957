"""Drawn damage of native files, as of images: nothing but ImageError, or DataError of a .daf, leaves their readers."""

import io
import tracemalloc

import pytest
from hypothesis import given

from fatescope.data.native.analysis import read_analysis
from fatescope.data.native.objects import NativeObject
from fatescope.data.native.reader import NativeFile
from fatescope.errors import DataError, ImageError
from tests.support import damage, fuzzing, native

OBJECTS = native.draw_objects(3, (1, 5), size=(10, 12))
XML = native.acquisition_xml((1, 5), (5,))
WHOLE = {
    "CIF": native.native(OBJECTS, xml=XML),
    "RIF": native.native(OBJECTS, masks=False, xml=XML, runs=("one", "two")),
    "DAF": native.analysis("run.cif", 3, {"Dead": [1, 2]}, {"Live": (0, 1)}, native.records({0: 900, 1: 950})),
}
MAX_MEMORY = 20e6
"""Bytes that reading a file of a few thousand may take."""


def read(raw):
    """Read what a file holds in each way that there is, the damaged objects as reasons."""
    tracemalloc.start()
    try:
        cells = [*_read_objects(raw), *_read_populations(raw)]
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()
    return cells


def _read_objects(raw):
    cells = []
    try:
        file = NativeFile(io.BytesIO(raw), "run.cif")
        channel = file.choose_channel("5")
        for place in file.places():
            cells.append(file.read(place, [channel], 10_000, masks=True))
            assert isinstance(cells[-1], NativeObject | ImageError)
    except ImageError as error:
        cells.append(error)
    return cells


def _read_populations(raw):
    try:
        return read_analysis(io.BytesIO(raw), "run.daf").populations
    except DataError as error:
        return [error]


def test_whole_files_are_read():
    assert [sum(isinstance(cell, NativeObject) for cell in read(WHOLE[kind])) for kind in ("CIF", "RIF")] == [3, 3]
    assert len(_read_populations(WHOLE["DAF"])) == 2


@pytest.mark.parametrize("path", fuzzing.corpus("native"), ids=lambda path: path.name)
def test_what_once_failed_is_read_or_refused(path):
    assert read(path.read_bytes())


@pytest.mark.fuzz
@given(raw=damage.damaged(WHOLE))
@fuzzing.settings(150)
def test_damaged_files_are_read_or_refused(raw):
    with fuzzing.kept(raw, "native"):
        read(raw)
