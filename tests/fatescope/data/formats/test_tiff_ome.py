"""What OME-XML says of the bit depth holds for the pages that it is said of, wherever it is said."""

import io

import numpy as np
import pytest
import tifffile

from fatescope.data import images
from fatescope.errors import ImageError
from tests.support.cases import case
from tests.support.images import draw_cell, tiff

RNG = np.random.default_rng(0)
STACK = np.stack([draw_cell(RNG) for _ in range(4)])


def pixels_element(bits=None, planes=""):
    stated = "" if bits is None else f' SignificantBits="{bits}"'
    return f'<Image><Pixels Type="uint16"{stated}>{planes}</Pixels></Image>'


def ome(*series, **attributes):
    return f"<OME {' '.join(f'{key}={value!r}' for key, value in attributes.items())}>{''.join(series)}</OME>"


def pages(*descriptions, dtype=np.uint16):
    """Return the bytes of a TIFF of one page for each description; None for a page without one."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page, description in zip(STACK, descriptions, strict=False):
            writer.write(page.astype(dtype), description=description, metadata=None, contiguous=False)
    return buffer.getvalue()


def depths(raw):
    return [header.bit_depth for header in images.read_headers(raw, "x.tif")]


@pytest.mark.parametrize("each", [False, True])
def test_a_stack_described_once_has_the_depth_of_one_described_on_each_page(each):
    text = ome(pixels_element(12))
    assert depths(pages(text, *[text if each else None] * 3)) == [12] * 4


def test_the_depth_that_tifffile_writes_once_holds_for_all_pages():
    raw = tiff(STACK, ome=True, photometric="minisblack", metadata={"axes": "TYX", "SignificantBits": 12})
    assert depths(raw) == [12] * 4
    decoded = [pixels for _, pixels in images.decode(raw, "x.ome.tif", 10**6)]
    np.testing.assert_array_equal(decoded, STACK)


def test_a_page_that_states_its_own_depth_has_that_one():
    assert depths(pages(ome(pixels_element(12)), None, ome(pixels_element(14)), "a note")) == [12, 12, 14, 12]


def test_pages_of_which_nothing_is_stated_have_all_stored_bits():
    assert depths(pages(ome(pixels_element()), None, "a note")) == [16] * 3


def test_no_page_has_more_significant_bits_than_it_stores():
    assert depths(pages(ome(pixels_element(12)), None, dtype=np.uint8)) == [8, 8]


@pytest.mark.parametrize("each", [False, True])
def test_each_series_has_its_own_depth(each):
    text = ome(
        pixels_element(12, '<TiffData IFD="0" PlaneCount="2"/>'),
        pixels_element(14, '<TiffData FirstZ="0" IFD="2"/>'),
        pixels_element(None, '<TiffData IFD="3"></TiffData>'),
    )
    assert depths(pages(text, *[text if each else None] * 3)) == [12, 12, 14, 16]


def test_a_series_behind_thousands_of_planes_has_its_own_depth():
    elsewhere = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="b.tif">urn:uuid:b</UUID></TiffData>' * 5000
    text = ome(pixels_element(12, f'<TiffData IFD="0"/>{elsewhere}'), pixels_element(14, '<TiffData IFD="1"/>'))
    assert depths(pages(text, None)) == [12, 14]


def test_series_of_one_depth_need_no_places():
    assert depths(pages(ome(pixels_element(12), pixels_element(12)), None)) == [12, 12]


def test_series_whose_pages_are_not_told_apart_are_refused():
    with pytest.raises(ImageError, match=r"^x\.tif: .*several bit depths, but not that of page 1") as caught:
        depths(pages(ome(pixels_element(12, '<TiffData IFD="0"/>'), pixels_element(14)), None))
    assert caught.value.code == "bit_depth"


def test_planes_of_other_files_of_a_set_are_not_sought_here():
    here, there = (
        f'<TiffData IFD="{ifd}" PlaneCount="1"><UUID FileName="{name}.tif">urn:uuid:{name}</UUID></TiffData>'
        for name, ifd in (("a", 0), ("b", 5))
    )
    text = ome(pixels_element(12, here), pixels_element(14, there), UUID="urn:uuid:a")
    assert depths(pages(text)) == [12]


def test_a_stack_that_lacks_planes_of_its_own_is_refused():
    text = ome(pixels_element(12, '<TiffData IFD="0" PlaneCount="4"/>'))
    assert depths(pages(text, None, None, None)) == [12] * 4
    with pytest.raises(ImageError, match="announces 4 slices, but 3 can be found") as caught:
        depths(pages(text, None, None))
    assert caught.value.code == "pages"


def test_two_series_that_tifffile_writes_are_read_whole():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        writer.write(STACK[:3], photometric="minisblack", metadata={"axes": "ZYX", "SignificantBits": 12})
        writer.write(STACK[3, :40], photometric="minisblack", metadata={"axes": "YX", "SignificantBits": 10})
    decoded = images.decode(buffer.getvalue(), "x.ome.tif", 10**6)
    assert [header.bit_depth for header, _ in decoded] == [12, 12, 12, 10]
    np.testing.assert_array_equal([pixels for _, pixels in decoded[:3]], STACK[:3])
    np.testing.assert_array_equal(decoded[3][1], STACK[3, :40])


def test_the_case_of_a_stack_described_once():
    once, each = (
        images.decode(case(f"stack_described_{how}.ome.tif").read_bytes(), "x.tif", 10**6)
        for how in ("once", "each_page")
    )
    assert [header.bit_depth for header, _ in once] == [header.bit_depth for header, _ in each] == [12] * 4
    np.testing.assert_array_equal([pixels for _, pixels in once], [pixels for _, pixels in each])


def test_pages_of_several_series_that_are_described_twice_are_refused():
    """Which of two depths holds cannot be told, and to work through thousands of such parts would take minutes."""
    both = ome(pixels_element(12, "<TiffData/>" * 3), pixels_element(10, "<TiffData/>" * 3))
    with pytest.raises(ImageError, match="several bit depths, but not that of page 0"):
        depths(pages(both, "", ""))
