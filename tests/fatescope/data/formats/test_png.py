"""A PNG is read with all its bits, and with the values that it stores."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fatescope.data import images
from fatescope.errors import ImageError
from tests.support.cases import case
from tests.support.images import draw_cell

CELL = draw_cell(np.random.default_rng(0)) << 4
CELL8 = (CELL >> 8).astype(np.uint8)
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values, colour=GREY, *chunks):
    """Return the bytes of a PNG of (H, W) or (H, W, C) values, with further chunks before the pixels."""
    height, width = values.shape[:2]
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def decode(raw):
    [(header, pixels)] = images.decode(raw, "x.png", 10**6)
    return header.bit_depth, pixels


def refuse(raw):
    with pytest.raises(ImageError, match=r"^x\.png: ") as caught:
        images.decode(raw, "x.png", 10**6)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("pixels", [CELL8, CELL])
def test_grey_is_the_same_in_every_colour_type(pixels):
    opaque = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    for colour, channels in (
        (GREY, [pixels]),
        (RGB, [pixels] * 3),
        (GREY_ALPHA, [pixels, opaque]),
        (RGB_ALPHA, [pixels, pixels, pixels, opaque]),
    ):
        depth, decoded = decode(png(np.stack(channels, -1), colour))
        assert depth == 8 * pixels.itemsize
        np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("pixels", [CELL8, CELL])
def test_channels_that_differ_in_their_lowest_bit_are_colour(pixels):
    assert refuse(png(np.stack([pixels, pixels, pixels ^ 1], -1), RGB))[0] == "channels"


@pytest.mark.parametrize(("colour", "channels"), [(GREY_ALPHA, 1), (RGB_ALPHA, 3)])
@pytest.mark.parametrize("pixels", [CELL8, CELL])
def test_transparent_pixels_are_refused(pixels, colour, channels):
    alpha = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    alpha[3, 4] -= 1
    code, message = refuse(png(np.stack([*[pixels] * channels, alpha], -1), colour))
    assert code == "channels"
    assert "transparent" in message


def test_a_transparent_level_matters_where_a_pixel_has_it():
    def level(value):
        return chunk(b"tRNS", struct.pack(">H", value))

    np.testing.assert_array_equal(decode(png(CELL, GREY, level(1)))[1], CELL)
    assert refuse(png(CELL, GREY, level(int(CELL[0, 0]))))[0] == "channels"


def palette(*colours):
    return chunk(b"PLTE", np.stack(colours, -1).astype(np.uint8).tobytes())


def test_a_grey_palette_is_applied_and_a_coloured_one_refused():
    ramp = np.arange(256)
    depth, decoded = decode(png(CELL8, PALETTE, palette(ramp[::-1], ramp[::-1], ramp[::-1])))
    assert depth == 8
    np.testing.assert_array_equal(decoded, 255 - CELL8)
    assert refuse(png(CELL8, PALETTE, palette(ramp, ramp[::-1], ramp)))[0] == "channels"


def test_a_palette_of_16_levels_has_the_levels_of_its_colours():
    buffer = io.BytesIO()
    indices = Image.fromarray(CELL8 % 16).convert("P")
    indices.putpalette([255 - 17 * (level // 3) for level in range(48)])
    indices.save(buffer, "PNG", bits=4)
    np.testing.assert_array_equal(decode(buffer.getvalue())[1], 255 - 17 * (CELL8 % 16))


@pytest.mark.parametrize(("bits", "words"), [(1, "1 bit"), (2, "2 bits"), (4, "4 bits")])
def test_grey_of_fewer_than_8_bits_is_refused(bits, words):
    raw = bytearray(png(np.zeros((16, 16 * bits // 8), np.uint8)))
    raw[16:26] = struct.pack(">IIBB", 16, 16, bits, GREY)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    code, message = refuse(bytes(raw))
    assert code == "bit_depth"
    assert f"{words} per pixel" in message


@pytest.mark.parametrize(
    "how",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"gAMA", struct.pack(">I", 100000)),
        chunk(b"sRGB", b"\0"),
        chunk(b"sBIT", b"\x0c"),
        chunk(b"bKGD", struct.pack(">H", 0)),
    ],
)
def test_chunks_about_the_display_change_no_value(how):
    np.testing.assert_array_equal(decode(png(CELL, GREY, how))[1], CELL)


def test_interlaced_pixels_are_read():
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [row for x, y, dx, dy in passes for row in CELL.astype(">u2")[y::dy, x::dx]]
    head = struct.pack(">IIBBBBB", 60, 45, 16, GREY, 0, 0, 1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(raw)[1], CELL)


def test_a_turned_picture_is_put_upright():
    exif = Image.Exif()
    exif[274] = 6
    raw = png(CELL, GREY, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    np.testing.assert_array_equal(decode(raw)[1], np.rot90(CELL, -1))


def test_damaged_exif_data_turn_nothing():
    for damaged in (b"", b"II*\0", b"II*\0\x08\0\0\0\x01\0", b"no Exif data"):
        np.testing.assert_array_equal(decode(png(CELL, GREY, chunk(b"eXIf", damaged)))[1], CELL)


def test_an_animation_is_refused():
    frames = [Image.fromarray(CELL8), Image.fromarray(255 - CELL8)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    code, message = refuse(buffer.getvalue())
    assert code == "pages"
    assert "2 images" in message


def test_damaged_pixels_are_refused(rng):
    raw = png(CELL)
    start = raw.index(b"IDAT") + 4
    for place in rng.integers(start, len(raw) - 16, 50):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << rng.integers(8)
        assert refuse(bytes(damaged))[0] == "truncated"


def test_missing_rows_are_refused():
    raw = bytearray(png(CELL[:-1]))
    raw[20:24] = struct.pack(">I", 45)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    assert refuse(bytes(raw))[0] == "truncated"


def test_a_file_without_a_header_is_refused():
    assert refuse(b"\x89PNG\r\n\x1a\n")[0] == "truncated"
    assert refuse(b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", bytes(20)))[0] == "truncated"


@pytest.mark.parametrize("name", ["grey_16bit.png", "grey_as_48bit_rgb.png", "grey_alpha_16bit.png"])
def test_the_cases_have_16_bits(name):
    with Image.open(case("grey_16bit.png")) as image:
        expected = np.asarray(image)
    depth, pixels = decode(case(name).read_bytes())
    assert depth == 16
    np.testing.assert_array_equal(pixels, expected)
