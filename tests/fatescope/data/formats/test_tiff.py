"""BigTIFF, and how pictures are turned."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fatescope.data import images
from fatescope.data.formats import tiff as format_of_tiff
from fatescope.data.formats import tiff_directory
from fatescope.errors import ImageError
from tests.support.cases import case
from tests.support.images import draw_cell, tiff

MEGAPIXEL = 1_000_000
RNG = np.random.default_rng(0)
STACK = np.stack([draw_cell(RNG) for _ in range(3)])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_bigtiff_is_read_like_any_other(byteorder, how):
    raw = tiff(STACK, bigtiff=True, byteorder=byteorder, photometric="minisblack", **how)
    decoded = images.decode(raw, "x.tif", MEGAPIXEL)
    assert {(header.format, header.height, header.width, header.bit_depth) for header, _ in decoded} == {
        ("TIFF", 45, 60, 16)
    }
    np.testing.assert_array_equal([pixels for _, pixels in decoded], STACK)


def test_sizes_in_a_bigtiff_may_have_64_bits():
    raw = bytearray(tiff(STACK[0], bigtiff=True, metadata=None))
    for name in ("ImageWidth", "ImageLength"):
        at = tifffile.TiffFile(io.BytesIO(raw)).pages[0].tags[name].offset
        raw[at + 2] = 16
    np.testing.assert_array_equal(images.decode(bytes(raw), "x.tif", MEGAPIXEL)[0][1], STACK[0])


@pytest.mark.parametrize("length", [5, 16, 17, 30, 300, -1])
def test_a_bigtiff_that_is_cut_off_is_refused(length):
    with pytest.raises(ImageError, match=r"^x\.tif: ") as caught:
        images.decode(tiff(STACK[0], bigtiff=True)[:length], "x.tif", MEGAPIXEL)
    assert caught.value.code == "truncated"


def test_a_bigtiff_of_absurdly_many_entries_takes_no_time():
    raw = bytearray(tiff(STACK[0], bigtiff=True)) + bytes(10_000_000)
    raw[16:24] = (500_000).to_bytes(8, "little")
    with pytest.raises(ImageError, match="500,000 entries"):
        images.read_headers(bytes(raw), "x.tif")


def test_tiles_that_would_take_all_memory_are_refused():
    raw = bytearray(tiff(STACK[0], tile=(16, 16), metadata=None))
    for name in ("TileWidth", "TileLength"):
        at = tifffile.TiffFile(io.BytesIO(raw)).pages[0].tags[name].valueoffset
        raw[at : at + 2] = (65520).to_bytes(2, "little")
    with pytest.raises(ImageError, match="tiles of 65520x65520 px"):
        images.read_headers(bytes(raw), "x.tif")


@pytest.mark.parametrize("orientation", range(10))
def test_a_turned_picture_is_put_upright(orientation):
    raw = tiff(STACK[0], extratags=[(274, 3, 1, orientation, True)], metadata=None)
    stored = Image.fromarray(STACK[0])
    stored.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))
    [(header, pixels)] = images.decode(raw, "x.tif", MEGAPIXEL)
    assert (header.height, header.width) == upright.shape
    np.testing.assert_array_equal(pixels, upright)


def test_the_case_of_a_bigtiff():
    path = case("bigtiff.tif")
    [(header, pixels)] = images.decode(path.read_bytes(), path.name, MEGAPIXEL)
    assert header.bit_depth == 12
    np.testing.assert_array_equal(pixels, tifffile.imread(path))


def chain(descriptions, text):
    """Return a TIFF of pages of one pixel, whose descriptions are at these places in `text`."""
    step = 2 + 12 * 9 + 4
    behind = 8 + step * len(descriptions)
    directories = b""
    for number, (start, length) in enumerate(descriptions):
        entries = {256: (4, 1, 1), 257: (4, 1, 1), 258: (3, 1, 16), 259: (3, 1, 1), 262: (3, 1, 1)}
        entries |= {270: (2, length, behind + start), 273: (4, 1, behind), 277: (3, 1, 1), 279: (4, 1, 2)}
        packed = b"".join(struct.pack("<HHII", tag, *values) for tag, values in sorted(entries.items()))
        after = 8 + step * (number + 1) if number + 1 < len(descriptions) else 0
        directories += struct.pack("<H", len(entries)) + packed + struct.pack("<I", after)
    return b"II*\0" + struct.pack("<I", 8) + directories + text


def test_a_description_that_pages_share_is_kept_once():
    raw = chain([(0, 50_000)] * 100, b"a" * 50_000)
    layout = tiff_directory.layout_of(raw)
    texts = [directory.descriptions[0] for directory in tiff_directory.read_chain(raw, layout)]
    assert len(texts) == 100
    assert all(text is texts[0] for text in texts)
    assert len(images.read_headers(raw, "x.tif")) == 100


def test_descriptions_that_overlap_are_refused():
    """Ten thousand pages with a hundred thousand bytes each would be a gigabyte, of a file of two."""
    with pytest.raises(ImageError, match="descriptions overlap"):
        images.read_headers(chain([(start, 50_000) for start in range(100)], b"a" * 60_000), "x.tif")


def plain(pixels, **how):
    """Return a TIFF, and its header."""
    raw = tiff(pixels, metadata=None, **how)
    return raw, images.read_headers(raw, "cell")[0]


PIXELS = (np.arange(45 * 60).reshape(45, 60) * 37 % 4096).astype(np.uint16)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("pixels", [PIXELS, (PIXELS // 16).astype(np.uint8)], ids=["16 bit", "8 bit"])
@pytest.mark.parametrize(
    "how",
    [{}, {"rowsperstrip": 7}, {"rowsperstrip": 1}, {"photometric": "miniswhite"}, {"bigtiff": True}],
    ids=["one strip", "strips", "rows", "white is zero", "BigTIFF"],
)
def test_what_is_read_without_libtiff_is_what_libtiff_reads(byteorder, pixels, how):
    raw, header = plain(pixels, byteorder=byteorder, **how)
    assert images.is_plain(raw, [header])
    own = format_of_tiff.decode_page(bytearray(raw), header, "cell")
    theirs = format_of_tiff.decode_page(bytearray(raw), replace(header, start=None), "cell")
    np.testing.assert_array_equal(own, theirs)
    assert own.dtype == theirs.dtype


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zlib"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"pixels": PIXELS.astype(np.float32)},
        {"pixels": PIXELS.astype(np.int16)},
        {"pixels": np.stack([PIXELS] * 3, axis=-1), "photometric": "rgb"},
        {"pixels": np.zeros((1100, 60), np.uint16), "rowsperstrip": 1},
    ],
    ids=["deflate", "packbits", "tiles", "floats", "signed", "colours", "many strips"],
)
def test_what_is_not_plain_is_for_libtiff(how):
    raw, header = plain(**{"pixels": PIXELS} | how)
    assert not images.is_plain(raw, [header])


def test_strips_that_lead_out_of_the_file_or_are_too_short_are_for_libtiff():
    raw, _ = plain(PIXELS, rowsperstrip=7)
    assert not images.is_plain(raw[:-1], images.read_headers(raw[:-1], "cell"))
    whole, header = plain(PIXELS)
    strip = header.directory.entries[279].start
    damaged = bytearray(whole)
    damaged[strip : strip + 4] = (len(PIXELS.tobytes()) - 2).to_bytes(4, "little")
    assert not images.is_plain(bytes(damaged), images.read_headers(bytes(damaged), "cell"))
    with pytest.raises(ImageError):
        images.decode(bytes(whole[: len(whole) // 2]), "cell", 10**6)


def test_pages_with_very_many_strips_together_are_for_libtiff(monkeypatch):
    """To look at the strips of all pages would take a file of pages that share a long list half a minute."""
    stack = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    raw = tiff(stack, rowsperstrip=5, photometric="minisblack")
    strips = len(PIXELS) // 5
    monkeypatch.setattr(format_of_tiff, "_MAX_ALL_STRIPS", 2 * strips)
    headers = images.read_headers(raw, "cell")
    assert [images.is_plain(raw, [header]) for header in headers] == [True, True, False]
    np.testing.assert_array_equal([pixels for _, pixels in images.decode(raw, "cell", MEGAPIXEL)], stack)
