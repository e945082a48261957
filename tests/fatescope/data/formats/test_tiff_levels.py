"""The grey levels of a TIFF are those of its picture, not the numbers that it stores."""

import numpy as np
import pytest
import tifffile

from fatescope.data import images
from fatescope.errors import ImageError
from tests.support.cases import case
from tests.support.images import bare_tiff, draw_cell, tiff

MEGAPIXEL = 1_000_000
CELL = draw_cell(np.random.default_rng(0))
CELL8 = (CELL >> 4).astype(np.uint8)
RAMP = np.arange(256, dtype=np.uint16)


def decode(raw):
    [(header, pixels)] = images.decode(raw, "x.tif", MEGAPIXEL)
    return header.bit_depth, pixels


def refuse(raw):
    with pytest.raises(ImageError, match=r"^x\.tif: ") as caught:
        images.decode(raw, "x.tif", MEGAPIXEL)
    return caught.value.code, str(caught.value)


def palette(red, green=None, blue=None):
    levels = [red, red if green is None else green, red if blue is None else blue]
    return {"photometric": "palette", "colormap": np.stack(levels).astype(np.uint16)}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("pixels", [CELL8, CELL])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_white_is_zero_shows_the_same_picture(pixels, byteorder, compression):
    top = np.iinfo(pixels.dtype).max
    raw = tiff(top - pixels, photometric="miniswhite", byteorder=byteorder, compression=compression)
    depth, decoded = decode(raw)
    assert depth == 8 * pixels.itemsize
    np.testing.assert_array_equal(decoded, pixels)


def test_white_is_zero_with_all_bits_significant_is_inverted():
    description = '<OME><Image><Pixels SignificantBits="16"/></Image></OME>'
    depth, decoded = decode(tiff(65535 - CELL, photometric="miniswhite", description=description, metadata=None))
    assert depth == 16
    np.testing.assert_array_equal(decoded, CELL)


def test_white_is_zero_of_twelve_bits_in_sixteen_is_refused():
    description = '<OME><Image><Pixels SignificantBits="12"/></Image></OME>'
    raw = tiff(4095 - CELL, photometric="miniswhite", description=description, metadata=None)
    code, message = refuse(raw)
    assert code == "bit_depth"
    assert "12 significant bits in 16" in message
    assert "export it with black as zero" in message


def test_white_is_zero_of_twelve_packed_bits_is_inverted_within_them():
    pixels = np.full((10, 16), 0x123, np.uint16)
    raw = bare_tiff((bytes.fromhex("123123") * 80, (10, 16)), 12, [(262, 3, [0])])
    assert decode(raw)[0] == 12
    np.testing.assert_array_equal(decode(raw)[1], 4095 - pixels)


@pytest.mark.parametrize("photometric", [0, 1])
def test_two_levels_are_no_picture_of_a_cell(photometric):
    assert refuse(bare_tiff((bytes(20), (10, 16)), 1, [(262, 3, [photometric])]))[0] == "bit_depth"


@pytest.mark.parametrize(
    ("levels", "shown"),
    [(RAMP * 257, CELL8), (RAMP[::-1] * 257, 255 - CELL8), (RAMP[::-1] * 256, 255 - CELL8), (RAMP[::-1], 255 - CELL8)],
    ids=["plain", "inverted", "scaled by 256", "not scaled"],
)
def test_a_grey_palette_is_applied(levels, shown):
    depth, decoded = decode(tiff(CELL8, **palette(levels)))
    assert depth == 8
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, shown)


def test_a_palette_of_levels_between_those_of_8_bits_keeps_its_16():
    levels = RAMP * 200 + 7
    depth, decoded = decode(tiff(CELL8, **palette(levels)))
    assert depth == 16
    np.testing.assert_array_equal(decoded, levels[CELL8])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_levels_is_applied(bits):
    levels = [65535 - 257 * (255 // ((1 << bits) - 1)) * level for level in range(1 << bits)]
    data = np.random.default_rng(0).integers(0, 256, 16 * 10 * bits // 8).astype(np.uint8)
    unpacked = np.unpackbits(data).reshape(-1, bits) @ (1 << np.arange(bits)[::-1])
    raw = bare_tiff((data.tobytes(), (10, 16)), bits, [(262, 3, [3]), (320, 3, levels * 3)])
    np.testing.assert_array_equal(decode(raw)[1].ravel(), np.array(levels)[unpacked] // 257)


def test_a_palette_of_16_bit_pixels_is_applied():
    levels = np.arange(65535, -1, -1)
    raw = bare_tiff((CELL.tobytes(), CELL.shape), 16, [(262, 3, [3]), (320, 3, [*levels, *levels, *levels])])
    depth, decoded = decode(raw)
    assert depth == 16
    np.testing.assert_array_equal(decoded, 65535 - CELL)


def test_a_coloured_palette_is_refused():
    code, message = refuse(tiff(CELL8, **palette(RAMP * 257, RAMP[::-1] * 257)))
    assert code == "channels"
    assert "its palette has colours, not grey levels; export it as greyscale, without a palette" in message


def test_colours_that_no_pixel_has_do_not_matter():
    red, green = RAMP * 257, RAMP * 257
    green[255] = 0
    np.testing.assert_array_equal(
        decode(tiff(np.minimum(CELL8, 200), **palette(red, green)))[1], np.minimum(CELL8, 200)
    )


@pytest.mark.parametrize("values", [[], [0] * 3, [0] * 3 * 255])
def test_a_palette_that_does_not_fit_is_refused(values):
    tags = [(320, 3, values)] if values else []
    assert refuse(bare_tiff((bytes(160), (10, 16)), 8, [(262, 3, [3]), *tags]))[0] == "truncated"


@pytest.mark.parametrize(
    ("photometric", "samples", "kind"),
    [(5, 4, "CMYK"), (8, 3, "CIELab"), (32803, 1, "colour filter array"), (34892, 1, "raw"), (7, 1, "neither")],
)
def test_what_is_neither_grey_nor_rgb_is_refused(photometric, samples, kind):
    tags = [(262, 3, [photometric]), (277, 3, [samples]), (258, 3, [8] * samples)]
    code, message = refuse(bare_tiff((bytes(160 * samples), (10, 16)), 8, tags))
    assert code == "channels"
    assert kind in message


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("pixels", [CELL8, CELL])
def test_grey_stored_as_colour_keeps_all_bits(pixels, planarconfig):
    axis = 0 if planarconfig == "separate" else -1
    raw = tiff(np.stack([pixels] * 3, axis), photometric="rgb", planarconfig=planarconfig)
    depth, decoded = decode(raw)
    assert depth == 8 * pixels.itemsize
    np.testing.assert_array_equal(decoded, pixels)
    colour = tiff(np.stack([pixels, pixels, pixels[::-1]], axis), photometric="rgb", planarconfig=planarconfig)
    assert refuse(colour)[0] == "channels"


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("pixels", [CELL8, CELL])
def test_alpha_says_nothing_where_it_is_opaque_and_is_refused_where_it_is_not(pixels, colours, planarconfig):
    axis = 0 if planarconfig == "separate" else -1
    how = {
        "photometric": "rgb" if colours == 3 else "minisblack",
        "planarconfig": planarconfig,
        "extrasamples": ["unassalpha"],
    }
    alpha = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    np.testing.assert_array_equal(decode(tiff(np.stack([*[pixels] * colours, alpha], axis), **how))[1], pixels)
    alpha[0, 0] = 0
    code, message = refuse(tiff(np.stack([*[pixels] * colours, alpha], axis), **how))
    assert code == "channels"
    assert "transparent" in message


def test_white_is_zero_with_alpha_inverts_the_grey_alone():
    alpha = np.full_like(CELL8, 255)
    how = {"photometric": "miniswhite", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    np.testing.assert_array_equal(decode(tiff(np.stack([255 - CELL8, alpha], -1), **how))[1], CELL8)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float16, np.float32])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_signed_and_float_values_are_refused(dtype, photometric):
    code, message = refuse(tiff(CELL.astype(dtype), photometric=photometric))
    assert code == "bit_depth"
    assert "expected" in message


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_predictor_is_undone(byteorder):
    raw = tiff(CELL, compression="zlib", predictor=True, byteorder=byteorder)
    np.testing.assert_array_equal(decode(raw)[1], CELL)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("whiteiszero8.tif", "blackiszero8.tif"),
        ("grey_palette_inverted.tif", "palette_plain_grey.tif"),
        ("blackiszero8.tif", "blackiszero8.tif"),
    ],
)
def test_the_cases_show_the_same_picture(name, same_as):
    depth, pixels = decode(case(name).read_bytes())
    assert depth == 8
    np.testing.assert_array_equal(pixels, tifffile.imread(case(same_as)))


def test_the_case_of_a_coloured_palette_is_refused():
    assert refuse(case("colour_palette.tif").read_bytes())[0] == "channels"
