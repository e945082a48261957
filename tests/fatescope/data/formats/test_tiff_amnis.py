"""Facts of the acquisition in images that IDEAS exported."""

import struct

import numpy as np
import pytest

from fatescope.data import images
from fatescope.data.formats.facts import ExportedFacts
from tests.support.images import tiff
from tests.support.native import FOLDER, NAME_OF_A_PERSON

TAGS = [(33003, "I", 1, 17, True), (33024, "I", 1, 4711, True), (33016, "I", 1, 1234567, True),
        (33017, "I", 1, 89, True), (33012, "d", 1, 43.5, True)]  # fmt: skip
PIXELS = np.full((12, 14), 700, np.uint16)


def facts(**how):
    [(header, pixels)] = images.decode(tiff(PIXELS, **how), "x.ome.tif", 10**6)
    np.testing.assert_array_equal(pixels, PIXELS)
    return header.facts


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_order_in_the_run_flow_speed_and_run_are_read_and_no_name_of_a_person(order, bigtiff):
    text = f'<OME><Image Name="{FOLDER}\\a_1d1.rif"/></OME>'
    found = facts(extratags=TAGS, description=text, metadata=None, byteorder=order, bigtiff=bigtiff)
    assert found == ExportedFacts("a_1d1", 17, 4711, 1234567, 89, 43.5)
    assert NAME_OF_A_PERSON not in str(found)


def test_what_an_image_does_not_say_is_missing():
    assert facts() is None
    assert facts(extratags=TAGS[:1]) == ExportedFacts("", 17, None, None, None, None)
    assert facts(extratags=[(33012, "d", 1, 43.5, True)]) is None, "a flow speed alone may be anybody's tag"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_flow_speed_that_is_no_number_is_missing(value):
    assert facts(extratags=[*TAGS[:4], (33012, "d", 1, value, True)]).flow_speed is None


def test_a_flow_speed_beyond_the_end_of_the_file_is_missing():
    raw = bytearray(tiff(PIXELS, extratags=TAGS))
    entry = raw.find(struct.pack("<HHI", 33012, 12, 1))
    raw[entry + 8 : entry + 12] = struct.pack("<I", len(raw) - 3)
    [(header, _)] = images.decode(bytes(raw), "x.ome.tif", 10**6)
    assert (header.facts.object, header.facts.flow_speed) == (17, None)
