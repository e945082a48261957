"""Native files are read object by object, bit for bit, whatever their channels, masks and size."""

import hashlib
import io
import json
import math

import numpy as np
import pytest

from fatescope.data.native.reader import NativeFile, NativeObject
from fatescope.errors import ImageError
from tests.support import native
from tests.support.project import SHARED

MOST = 10**6


def opened(raw, name="run.cif"):
    return NativeFile(io.BytesIO(raw), name)


def read_all(file, channels, **how):
    return [file.read(place, channels, MOST, **how) for place in file.places()]


@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize("masks", [True, False])
def test_any_number_of_channels_with_and_without_masks(count, masks):
    channels = tuple(range(13 - count, 13))
    objects = native.draw_objects(3, channels)
    file = opened(native.native(objects, masks, xml=native.acquisition_xml(channels, channels[-1:])))
    assert file.acquisition.channels == channels
    assert file.choose_channel("1" if count < 12 else None) == 12
    for (pixels, covered), cell in zip(objects, read_all(file, channels, masks=True), strict=True):
        np.testing.assert_array_equal(cell.images, pixels)
        if masks:
            np.testing.assert_array_equal(cell.masks, covered)
        else:
            assert cell.masks is None


def test_some_channels_in_the_order_that_is_asked_for():
    objects = native.draw_objects(2, (2, 3, 7))
    file = opened(native.native(objects, xml=native.acquisition_xml((2, 3, 7), (3,))))
    for (pixels, _), cell in zip(objects, read_all(file, [7, 2]), strict=True):
        np.testing.assert_array_equal(cell.images, pixels[[2, 0]])


@pytest.mark.parametrize("level", [0, 65_535])
def test_extreme_pixels_survive(level):
    pixels = np.full((1, 20, 24), level, np.uint16)
    pixels[0, ::2, 1::2] = 65_535 - level
    [cell] = read_all(opened(native.native([(pixels, pixels.astype(np.uint8) * 0 + 2)])), [1], masks=True)
    np.testing.assert_array_equal(cell.images, pixels)
    assert (cell.masks == 2).all()


def test_the_header_says_how_the_cells_were_acquired():
    xml = native.acquisition_xml((1, 4, 9), (1, 9), power=0.25, magnification=60)
    acquisition = opened(native.native(native.draw_objects(2, (1, 4, 9)), xml=xml, runs=("day 1_run2",))).acquisition
    assert (acquisition.objects, acquisition.channels) == (2, (1, 4, 9))
    assert acquisition.brightfield == {1: 0.25, 9: 0.25}
    assert (acquisition.magnification, acquisition.instrument, acquisition.software) == (60, "IS100-Lab", "6.0.354.0")
    assert acquisition.run == "day 1_run2"


def test_a_merged_file_names_all_its_runs():
    acquisition = opened(native.native(native.draw_objects(1), runs=("one", "two", "one"))).acquisition
    assert acquisition.runs == ("one", "two")
    assert acquisition.run == "one+two"


def test_the_name_of_very_many_merged_runs_stays_short_and_apart():
    first, second = (
        opened(native.native(native.draw_objects(1), runs=[f"{i} of day {day}" for i in range(9000)])).acquisition.run
        for day in (1, 2)
    )
    assert first.startswith("0 of day 1+1 of day 1+")
    assert first[200:].startswith("… (9,000 runs, ")
    assert len(first) < 250
    alike = opened(native.native(native.draw_objects(1), runs=[*map(str, range(900)), "x"])).acquisition.run
    other = opened(native.native(native.draw_objects(1), runs=[*map(str, range(900)), "y"])).acquisition.run
    assert alike[:200] == other[:200]
    assert alike != other
    assert first != second


def test_nothing_of_people_and_folders_is_kept():
    file = opened(native.native(native.draw_objects(1)))
    kept = repr(file.acquisition) + repr(read_all(file, [1]))
    assert "Operator" not in kept
    assert "ImageStream data" not in kept
    assert "run1" in kept


def test_facts_of_an_object():
    file = opened(native.native(native.draw_objects(3), numbers=[4, 5, 9]))
    facts = [cell.facts for cell in read_all(file, [1])]
    assert [fact.object for fact in facts] == [4, 5, 9]
    last = facts[-1]
    assert (last.acquired_object, last.camera_line, last.camera_timer) == (127, 1063, 19)
    assert (last.flow_speed, last.date, last.background_sd, last.saturated) == (
        22.5,
        "5/2/2016 2:26:24 PM",
        (0.5,),
        (0,),
    )
    assert 225 < last.background_mean[0] < 235


@pytest.mark.parametrize(
    ("brightfield", "preferred", "channel"),
    [((9,), "1", 9), ((1, 9), "9", 9), ((1, 9), None, 1), ((1, 9), "4", 1), ((), "4", 4)],
)
def test_brightfield_is_found(brightfield, preferred, channel):
    xml = native.acquisition_xml((1, 4, 9), brightfield)
    assert opened(native.native(native.draw_objects(1, (1, 4, 9)), xml=xml)).choose_channel(preferred) == channel


@pytest.mark.parametrize("preferred", [None, "2", "brightfield"])
def test_no_brightfield_is_a_refusal(preferred):
    xml = native.acquisition_xml((1, 4, 9), (2,))
    with pytest.raises(ImageError, match=r"run\.cif: no channel in use has a brightfield lamp .*\[1, 4, 9\]") as caught:
        opened(native.native(native.draw_objects(1, (1, 4, 9)), xml=xml)).choose_channel(preferred)
    assert caught.value.code == "channels"


def test_reading_begins_at_any_object():
    objects = native.draw_objects(9)
    file = opened(native.native(objects))
    places = list(file.places())
    again = opened(native.native(objects)).places(places[5])
    assert list(again) == places[5:]


@pytest.mark.parametrize("begin", [2**32 - 9_000, 2**32 - 1_500, 2**32 + 5])
def test_offsets_wrap_above_four_gibibytes(tmp_path, begin):
    objects = native.draw_objects(12)
    path = native.write_beyond(tmp_path / "large.cif", native.parts(objects), begin)
    assert path.stat().st_size > 2**32
    with path.open("rb") as raw:
        cells = read_all(NativeFile(raw, path.name), [1], masks=True)
    for (pixels, covered), cell in zip(objects, cells, strict=True):
        np.testing.assert_array_equal(cell.images, pixels)
        np.testing.assert_array_equal(cell.masks, covered)


def test_a_real_file_holds_what_is_known_of_it():
    path = SHARED / "eosinophil.cif"
    if not path.exists():
        pytest.skip(f"the real file is not here: {path}")
    known = json.loads((SHARED / "eosinophil_ch5_first40.json").read_text())
    with path.open("rb") as raw:
        file = NativeFile(raw, path.name)
        assert file.acquisition.objects == 111
        assert file.acquisition.brightfield == {5: pytest.approx(0.457949)}
        assert file.choose_channel("1") == 5
        assert file.acquisition.run == "SAMPLE1-1 treated time 5h_8"
        cells = read_all(file, [5], masks=True)
    assert len(cells) == 111
    assert all(isinstance(cell, NativeObject) for cell in cells)
    for cell, figures in zip(cells, known, strict=False):
        pixels = cell.images[0]
        assert pixels.shape == (figures["height"], figures["width"])
        assert hashlib.sha256(pixels.astype("<u2").tobytes()).hexdigest()[:16] == figures["ch5_sha256_16"]
        assert (np.median(pixels), pixels.min(), pixels.max()) == (figures["median"], figures["min"], figures["max"])
        assert (cell.masks[0] > 0).sum() == figures["mask_pixels"]
        assert (cell.facts.object, cell.facts.acquired_object) == (figures["object"], figures["acquired_object"])
        assert math.isclose(cell.facts.background_mean[4], 224, abs_tol=2)
