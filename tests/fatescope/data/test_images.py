import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from fatescope.data import images
from fatescope.errors import ImageError
from tests.support.images import draw_cell, tiff

MEGAPIXEL = 1_000_000


def saved(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw"},
        {"byteorder": ">"},
        {"ome": True},
        {"tile": (16, 16)},
        {"photometric": "minisblack", "metadata": None},
    ],
)
def test_tiff_pixels_survive(rng, kwargs):
    pixels = draw_cell(rng)
    [(header, decoded)] = images.decode(tiff(pixels, **kwargs), "x.tif", MEGAPIXEL)
    assert (header.format, header.height, header.width, header.samples) == ("TIFF", 45, 60, 1)
    assert header.bit_depth == 16
    np.testing.assert_array_equal(decoded, pixels)


def test_significant_bits_of_ome_are_the_bit_depth(rng):
    description = '<OME><Image><Pixels SignificantBits="12" Type="uint16"/></Image></OME>'
    raw = tiff(draw_cell(rng), description=description, metadata=None)
    assert images.read_headers(raw, "x.tif")[0].bit_depth == 12


def test_each_page_is_a_cell(rng):
    stack = np.stack([draw_cell(rng) for _ in range(3)])
    pages = images.decode(tiff(stack, photometric="minisblack"), "x.tif", MEGAPIXEL)
    np.testing.assert_array_equal([pixels for _, pixels in pages], stack)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_eight_bit_formats(rng, kind):
    pixels = (draw_cell(rng) >> 4).astype(np.uint8)
    [(header, decoded)] = images.decode(saved(Image.fromarray(pixels), kind), "x", MEGAPIXEL)
    assert (header.format, header.bit_depth) == (kind, 8)
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_grey_stored_as_colour_counts_as_grey(rng, mode):
    pixels = (draw_cell(rng) >> 4).astype(np.uint8)
    [(_, decoded)] = images.decode(saved(Image.fromarray(pixels).convert(mode), "BMP"), "x.bmp", MEGAPIXEL)
    np.testing.assert_array_equal(decoded, pixels)


def test_sixteen_bit_png(rng):
    pixels = draw_cell(rng)
    [(header, decoded)] = images.decode(saved(Image.fromarray(pixels), "PNG"), "x.png", MEGAPIXEL)
    assert header.bit_depth == 16
    np.testing.assert_array_equal(decoded, pixels)


CELL = draw_cell(np.random.default_rng(0))
COLOUR = np.random.default_rng(0).integers(0, 255, (45, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty"),
        (b"hello, this is no image", "not_an_image"),
        (b"II*\0", "truncated"),
        (b"II*\0\x08\0\0\0\xff\xff", "truncated"),
        (tiff(CELL)[:2000], "truncated"),
        (tiff(CELL)[:-1], "truncated"),
        (tiff(CELL, compression="zlib")[:1000], "truncated"),
        (saved(Image.fromarray(CELL), "PNG")[:500], "truncated"),
        (saved(Image.fromarray(CELL), "PNG")[:20], "truncated"),
        (tiff(COLOUR, photometric="rgb"), "channels"),
        (saved(Image.fromarray(COLOUR), "PNG"), "channels"),
        (saved(Image.new("LA", (50, 50)), "PNG"), "channels"),
        (tiff(CELL.astype(np.float32)), "bit_depth"),
        (tiff(CELL.astype(np.int16)), "bit_depth"),
        (saved(Image.new("1", (50, 50)), "PNG"), "bit_depth"),
        (tiff(CELL[:3, :3]), "too_small"),
        (tiff(np.zeros((10_000, 10_000), np.uint8), compression="zlib"), "too_large"),
        (saved(Image.new("L", (10_000, 10_000)), "PNG"), "too_large"),
        (saved(Image.new("L", (20_000, 10_000)), "PNG"), "too_large"),
    ],
)
def test_refused_with_a_stable_code_and_the_name(raw, code):
    with pytest.raises(ImageError, match=r"^a_1d1_3_Ch1\.tif: ") as caught:
        images.decode(raw, "a_1d1_3_Ch1.tif", MEGAPIXEL)
    assert caught.value.code == code


def test_a_bomb_is_refused_from_its_header(monkeypatch):
    raw = tiff(np.zeros((10_000, 10_000), np.uint8), compression="zlib")
    monkeypatch.setattr(imagecodecs, "tiff_decode", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="1,000,000 px"):
        images.decode(raw, "x.tif", MEGAPIXEL)


def test_a_cycle_of_directories_ends():
    # One directory without entries whose next directory is itself.
    with pytest.raises(ImageError, match="directory cannot be read"):
        images.read_headers(b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0", "x.tif")


def test_a_long_cycle_or_description_takes_no_time():
    # A directory that is its own next one, with a description as long as the file.
    entry = struct.pack("<HHII", 270, 2, 2_000_000, 0)
    raw = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8) + bytes(2_000_000)
    with pytest.raises(ImageError):
        images.read_headers(raw, "x.tif")


@pytest.mark.parametrize("kind", [1, 11, 16])
def test_a_size_in_an_unusual_type_is_refused(kind):
    raw = bytearray(tiff(CELL, metadata=None))
    at = (
        raw.index(struct.pack("<HH", 256, 3))
        if struct.pack("<HH", 256, 3) in raw
        else raw.index(struct.pack("<HH", 256, 4))
    )
    raw[at + 2] = kind
    with pytest.raises(ImageError, match="tag 256") as caught:
        images.decode(bytes(raw), "x.tif", MEGAPIXEL)
    assert caught.value.code == "truncated"


PALETTE = np.stack([np.arange(256)[::-1] * 257] * 3).astype(np.uint16)
STACK = np.stack([CELL] * 3)


@pytest.mark.parametrize(
    "start",
    [
        tiff(CELL),
        tiff(CELL, compression="zlib"),
        tiff(CELL, bigtiff=True),
        tiff((CELL >> 4).astype(np.uint8), photometric="palette", colormap=PALETTE),
        tiff(STACK, imagej=True, truncate=True),
        tiff(STACK, ome=True, photometric="minisblack", metadata={"SignificantBits": 12}),
        saved(Image.fromarray(CELL), "PNG"),
        saved(Image.fromarray((CELL >> 4).astype(np.uint8)), "BMP"),
    ],
)
def test_damaged_files_are_refused_or_read_and_nothing_else(rng, start):
    """Whatever a few wrong bytes do, the answer is pixels or an ImageError."""
    for _ in range(1500):
        raw = bytearray(start)
        for place in rng.integers(0, min(len(raw), 400), rng.integers(1, 5)):
            raw[place] = rng.integers(256)
        try:
            for header, pixels in images.decode(bytes(raw), "x", MEGAPIXEL):
                assert pixels.shape == (header.height, header.width)
        except ImageError:
            continue


def test_a_zip_where_an_image_was_expected_is_told_where_to_go():
    with pytest.raises(ImageError, match="a zip, where one image was expected; send it to /classify_batch"):
        images.decode(b"PK\x03\x04\x14\0\0\0", "cells.zip", MEGAPIXEL)
