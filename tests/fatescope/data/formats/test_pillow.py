"""BMP and JPEG show the grey levels of their picture, or are refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from fatescope.data import images
from fatescope.errors import ImageError
from tests.support.images import draw_cell

CELL = (draw_cell(np.random.default_rng(0)) >> 4).astype(np.uint8)
RAMP = np.arange(256)


def bmp(bits, data, size=CELL.shape, palette=b"", compression=0, masks=b""):
    """Return the bytes of a BMP whose rows, from the bottom, are padded to four bytes."""
    start, (height, width) = 54 + len(masks) + len(palette), size
    # Four masks are a part of a longer header; three follow it.
    own = 40 + len(masks) if len(masks) > 12 else 40
    head = struct.pack("<IiiHHIIiiII", own, width, height, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<III", start + len(data), 0, start) + head + masks + palette + data


def palette(*colours):
    return np.stack([*colours, np.zeros(256)], -1).astype(np.uint8).tobytes()


def decode(raw):
    [(header, pixels)] = images.decode(raw, "x", 10**6)
    assert header.bit_depth == 8
    return pixels


def refuse(raw):
    with pytest.raises(ImageError, match=r"^x: ") as caught:
        images.decode(raw, "x", 10**6)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(("levels", "shown"), [(RAMP, CELL), (RAMP[::-1], 255 - CELL), (RAMP // 2, CELL // 2)])
def test_a_grey_palette_of_a_bmp_is_applied(levels, shown):
    np.testing.assert_array_equal(decode(bmp(8, CELL[::-1].tobytes(), palette=palette(levels, levels, levels))), shown)


def test_a_coloured_palette_of_a_bmp_is_refused():
    assert refuse(bmp(8, CELL[::-1].tobytes(), palette=palette(RAMP, RAMP[::-1], RAMP)))[0] == "channels"


@pytest.mark.parametrize(
    ("compression", "masks"),
    [
        (0, b""),
        (3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)),
        (3, struct.pack("<4I52x", 0xFF0000, 0xFF00, 0xFF, 0xFF << 24)),
    ],
)
def test_a_fourth_byte_of_a_bmp_is_not_displayed(compression, masks):
    data = np.stack([CELL[::-1]] * 3 + [np.zeros_like(CELL)], -1).tobytes()
    np.testing.assert_array_equal(decode(bmp(32, data, compression=compression, masks=masks)), CELL)


def test_a_bmp_of_16_bits_per_pixel_has_too_few_for_each_colour():
    assert refuse(bmp(16, np.zeros((45, 60), np.uint16).tobytes()))[0] == "bit_depth"


def jpeg(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=100, **how)
    return buffer.getvalue()


def test_a_jpeg_of_printing_colours_is_refused():
    grey = Image.fromarray(CELL)
    empty = Image.new("L", grey.size)
    code, message = refuse(jpeg(Image.merge("CMYK", [empty, empty, empty, grey])))
    assert code == "channels"
    assert "CMYK" in message


def test_a_turned_jpeg_is_put_upright():
    exif = Image.Exif()
    exif[274] = 6
    np.testing.assert_allclose(decode(jpeg(Image.fromarray(CELL), exif=exif)), np.rot90(CELL, -1), atol=3)
    np.testing.assert_allclose(decode(jpeg(Image.fromarray(CELL), exif=b"Exif\0\0damaged")), CELL, atol=3)


def test_a_bmp_of_the_oldest_kind_that_ends_with_its_header_is_refused():
    refuse(b"BM" + struct.pack("<IHHI", 26, 0, 0, 26) + struct.pack("<IHHHH", 12, 40, 40, 1, 24))
