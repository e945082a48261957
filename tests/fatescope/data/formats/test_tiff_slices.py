"""Each image of a TIFF is a cell, and nothing else is: no thumbnail, no mask, and no slice is lost in silence."""

import io
import struct

import numpy as np
import pytest
import tifffile

from fatescope.data import formats, images
from fatescope.data.formats import tiff as formats_tiff
from fatescope.data.formats import tiff_slices
from fatescope.errors import ImageError
from tests.support.cases import case
from tests.support.images import bare_tiff, draw_cell, tiff

MEGAPIXEL = 1_000_000
RNG = np.random.default_rng(0)
STACK = np.stack([draw_cell(RNG) for _ in range(5)])
SMALL = STACK[0, ::2, ::2].copy()


def decode(raw):
    return [pixels for _, pixels in images.decode(raw, "x.tif", MEGAPIXEL)]


def lose(raw):
    with pytest.raises(ImageError, match=r"^x\.tif: ") as caught:
        images.decode(raw, "x.tif", MEGAPIXEL)
    assert caught.value.code == "pages"
    return str(caught.value)


def written(*pages):
    """Return the bytes of a TIFF of pages, each with what tifffile shall write beside its pixels."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels, how in pages:
            writer.write(pixels, **{"contiguous": False, "photometric": "minisblack"} | how)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("pixels", "how"),
    [
        (SMALL, {"subfiletype": 1}),
        (SMALL, {"extratags": [(255, 3, 1, 2, True)]}),
        (STACK[0] > 600, {"subfiletype": 4}),
        (SMALL > 600, {"subfiletype": 5}),
    ],
    ids=["thumbnail", "old thumbnail", "mask", "mask of a thumbnail"],
)
@pytest.mark.parametrize("first", [False, True])
def test_thumbnails_and_masks_are_no_cells(pixels, how, first):
    copy = (pixels, how)
    cells = [(STACK[0], {}), (STACK[1], {"subfiletype": 2})]
    raw = written(*([copy, *cells] if first else [cells[0], copy, cells[1]]))
    np.testing.assert_array_equal(decode(raw), STACK[:2])


def test_a_transparency_mask_is_no_cell_whatever_its_kind_is_called():
    raw = bytearray(written((STACK[0], {}), (STACK[1], {"photometric": "miniswhite"})))
    at = raw.rindex(struct.pack("<HHIH", 262, 3, 1, 0))
    raw[at + 8] = 4
    np.testing.assert_array_equal(decode(bytes(raw)), STACK[:1])


def test_a_file_of_thumbnails_alone_is_refused():
    assert "nothing but thumbnails or masks" in lose(written((STACK[0], {"subfiletype": 1})))


@pytest.mark.parametrize("flag", [{}, {"subfiletype": 1}])
def test_smaller_copies_below_a_page_are_no_cells(flag):
    raw = written((STACK[0], {"subifds": 1}), (SMALL, flag), (STACK[1], {}))
    assert len(tifffile.TiffFile(io.BytesIO(raw)).pages[0].subifds) == 1
    np.testing.assert_array_equal(decode(raw), STACK[:2])


@pytest.mark.parametrize(("height", "width"), [(45, 59), (44, 60)])
def test_a_directory_below_a_page_that_is_smaller_in_one_direction_is_a_copy(height, width):
    below = STACK[1, :height, :width].copy()
    np.testing.assert_array_equal(decode(written((STACK[0], {"subifds": 1}), (below, {}))), STACK[:1])


@pytest.mark.parametrize("one_directory", [False, True])
def test_a_file_has_so_many_pages_and_no_more(monkeypatch, one_directory):
    assert formats.MAX_PAGES == 100_000
    raw = tiff(STACK, imagej=True, truncate=one_directory)
    for most, module in ((5, formats_tiff), (5, tiff_slices), (4, tiff_slices if one_directory else formats_tiff)):
        monkeypatch.setattr(module, "MAX_PAGES", most)
        if most == 5:
            assert len(decode(raw)) == 5
    with pytest.raises(ImageError, match="more than 100,000 pages; export fewer cells per file") as caught:
        images.decode(raw, "x.tif", MEGAPIXEL)
    assert caught.value.code == "too_many_pages"


def test_the_slices_of_several_stacks_in_a_file_are_counted_together(monkeypatch):
    texts = [
        {"metadata": None, "description": f'{{"shape": [5, 45, 60], "truncated": true, "n": {n}}}'} for n in (1, 2)
    ]
    raw = written((STACK[0], texts[0]), (STACK[0], texts[1])) + STACK[1:].tobytes() * 2
    assert len(decode(raw)) == 10
    monkeypatch.setattr(tiff_slices, "MAX_PAGES", 9)
    with pytest.raises(ImageError, match="export fewer cells per file"):
        images.decode(raw, "x.tif", MEGAPIXEL)


@pytest.mark.parametrize(
    ("tags", "is_read"),
    [
        ([], True),
        ([(266, 3, [1])], True),
        ([(266, 3, [2])], False),
        ([(277, 3, [3]), (262, 3, [2]), (284, 3, [1])], True),
        ([(277, 3, [3]), (262, 3, [2]), (284, 3, [2])], False),
        ([(284, 3, [2])], True),
        ([(259, 3, [5])], False),
    ],
    ids=["plain", "bits in order", "bits in reverse", "colours by pixel", "by plane", "one plane", "compressed"],
)
def test_a_stack_behind_one_directory_is_read_only_where_its_bytes_are_its_pixels(tags, is_read):
    samples = 3 if any(tag == 277 for tag, *_ in tags) else 1
    grey = (STACK >> 4).astype(np.uint8)
    data = np.repeat(grey[..., None], samples, -1).tobytes()
    size = [(33629, 4, [0] * 5), (33628, 4, [0]), (279, 4, [len(data) // 5])]
    raw = bare_tiff((data, grey.shape[1:]), 8, [*size, *tags])
    if is_read:
        np.testing.assert_array_equal(decode(raw), grey)
    else:
        assert "announces 5 slices, but 1 can be found" in lose(raw)


def test_an_image_below_a_page_is_not_lost():
    assert "directories below its pages" in lose(written((STACK[0], {"subifds": 1}), (STACK[1], {})))


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("one_directory", [False, True])
def test_every_slice_of_an_imagej_stack_is_a_cell(dtype, byteorder, bigtiff, one_directory):
    stack = (STACK >> 4).astype(dtype)
    if bigtiff:
        description = "ImageJ=1.53t\nimages=5\nslices=5\nloop=false\n"
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, bigtiff=True, byteorder=byteorder) as writer:
            for page in stack[: 1 if one_directory else None]:
                writer.write(page, photometric="minisblack", contiguous=False, description=description, metadata=None)
        raw = buffer.getvalue()
        if one_directory:
            raw += b"".join(page.astype(stack.dtype.newbyteorder(byteorder)).tobytes() for page in stack[1:])
    else:
        raw = tiff(stack, imagej=True, byteorder=byteorder, truncate=one_directory)
    assert len(tifffile.TiffFile(io.BytesIO(raw)).pages) == (1 if one_directory else 5)
    decoded = decode(raw)
    assert {page.dtype for page in decoded} == {np.dtype(dtype)}
    np.testing.assert_array_equal(decoded, stack)


def test_every_slice_of_a_hyperstack_of_imagej_is_a_cell():
    hyperstack = STACK[:4].reshape(2, 2, *STACK.shape[1:])
    raw = tiff(hyperstack, imagej=True, truncate=True, metadata={"axes": "TZYX"})
    np.testing.assert_array_equal(decode(raw), STACK[:4])


def test_every_slice_of_a_colour_stack_of_imagej_is_a_cell():
    grey = (STACK >> 4).astype(np.uint8)
    raw = tiff(np.stack([grey] * 3, -1), imagej=True, truncate=True)
    np.testing.assert_array_equal(decode(raw), grey)


def test_every_slice_of_an_inverted_stack_of_imagej_is_inverted():
    description = "ImageJ=1.53t\nimages=5\nslices=5\n"
    raw = tiff(65535 - STACK[0], photometric="miniswhite", description=description, metadata=None)
    raw += (65535 - STACK[1:]).tobytes()
    np.testing.assert_array_equal(decode(raw), STACK)


def test_every_slice_that_tifffile_wrote_behind_one_directory_is_a_cell():
    np.testing.assert_array_equal(decode(tiff(STACK, photometric="minisblack", truncate=True)), STACK)


def test_every_plane_of_a_metamorph_stack_is_a_cell():
    planes = [(33629, 4, [0] * 5), (33628, 4, [0])]
    raw = bare_tiff((STACK.tobytes(), STACK.shape[1:]), 16, [*planes, (279, 4, [STACK[0].nbytes])])
    np.testing.assert_array_equal(decode(raw), STACK)


@pytest.mark.parametrize("slices", [6, 200_000, 999_999_999])
def test_a_stack_that_lacks_slices_is_refused(slices):
    raw = tiff(STACK[0], description=f"ImageJ=1.53t\nimages={slices}\n", metadata=None) + STACK[1:].tobytes()
    assert f"announces {slices:,} slices, but 1 can be found; save the stack again" in lose(raw)


def test_a_stack_that_lacks_pages_is_refused():
    text = {"description": "ImageJ=1.53t\nimages=5\n", "metadata": None}
    pages = [(page, {"metadata": None}) for page in STACK[1:3]]
    assert "announces 5 slices, but 3 can be found" in lose(written((STACK[0], text), *pages))


def test_a_compressed_page_that_stands_for_a_stack_is_refused():
    raw = tiff(STACK[0], description="ImageJ=1.53t\nimages=5\n", metadata=None, compression="zlib")
    assert "announces 5 slices" in lose(raw + bytes(100_000))


def test_slices_whose_strips_do_not_follow_each_other_are_refused():
    raw = bytearray(tiff(STACK[0], description="ImageJ=1.53t\nimages=5\n", metadata=None, rowsperstrip=15))
    raw += STACK[1:].tobytes()
    page = tifffile.TiffFile(io.BytesIO(raw)).pages[0]
    assert len(page.dataoffsets) == 3
    np.testing.assert_array_equal(decode(bytes(raw)), STACK)
    offsets = page.tags[273].valueoffset
    struct.pack_into("<I", raw, offsets + 4, page.dataoffsets[2])
    assert "announces 5 slices" in lose(bytes(raw))


def micro_manager(planes, pages=5):
    """Return a stack as Micro-Manager writes it: two descriptions, and an index of its planes."""
    texts = ("<OME></OME>", f"ImageJ=1.53t\nimages={planes}\n")
    tags = [(270, "s", len(text) + 1, text, True) for text in texts]
    extra = {"extratags": tags, "metadata": None, "description": None}
    raw = bytearray(written((STACK[0], extra), *[(page, {"metadata": None}) for page in STACK[1:pages]]))
    # The magic numbers take the place in which tifffile begins the first directory, which goes to the end.
    directory, end = raw[8 : 8 + 2 + 12 * struct.unpack_from("<H", raw, 8)[0] + 4], len(raw)
    struct.pack_into("<I", raw, 4, end)
    struct.pack_into("<II", raw, 8, 54773648, end + len(directory))
    return bytes(raw + directory + struct.pack("<II", 3453623, planes))


def test_every_plane_in_the_index_of_micro_manager_is_a_cell():
    np.testing.assert_array_equal(decode(micro_manager(5)), STACK)
    assert "announces 6 slices, but 5 can be found" in lose(micro_manager(6))
    assert "announces 5 slices, but 1 can be found" in lose(micro_manager(5, pages=1))


def test_a_volume_in_one_page_is_refused():
    raw = bare_tiff((STACK.tobytes(), STACK.shape[1:]), 16, [(32997, 4, [5])])
    assert "a volume of 5 slices in one page" in lose(raw)


def test_the_case_of_a_page_with_a_thumbnail():
    path = case("page_with_thumbnail.tif")
    [(header, pixels)] = images.decode(path.read_bytes(), path.name, MEGAPIXEL)
    assert header.bit_depth == 12
    np.testing.assert_array_equal(pixels, tifffile.imread(path, key=0))


def test_directories_below_pages_are_counted_before_they_are_listed():
    """Pages may share the list, and to unpack it for each of them would take hours."""
    raw = bare_tiff((STACK[0].tobytes(), STACK[0].shape), 16, [(330, 4, [8] * 10_001)])
    with pytest.raises(ImageError, match="10,001 directories below"):
        images.decode(raw, "x.tif", MEGAPIXEL)
