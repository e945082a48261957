"""Raw files of instruments are told by content and by name, and exported images never are."""

import numpy as np
import pytest

from fatescope.data import images, instruments
from fatescope.errors import ImageError
from tests.support.images import bare_tiff, tiff
from tests.support.project import SHARED

PIXELS = np.arange(400, dtype=np.uint16).reshape(20, 20)
EXPORTED = [(33002, 3, 1, 2, True), (33003, 4, 1, 7, True), (33024, 4, 1, 58, True)]
HEADER = bare_tiff((bytes(1), (1, 1)), 8, [(33002, 3, [1]), (33018, 4, [111])])
IMAGE = bare_tiff((bytes(800), (20, 20)), 16, [(259, 3, [30817]), (33002, 3, [2])])
MASK = bare_tiff((bytes(800), (20, 20)), 16, [(259, 3, [30818]), (33002, 3, [2])])
ANALYSIS = b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n<Assay date="25/06/2020"></Assay>'


def refuse(raw, name):
    with pytest.raises(ImageError) as caught:
        images.decode(raw, name, 10**6)
    assert caught.value.code == "not_an_image"
    assert str(caught.value).startswith(f"{name}: ")
    assert "export one TIFF per cell and channel" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (HEADER, "raw file of an Amnis instrument"),
        (HEADER[:-1], "raw file of an Amnis instrument"),
        (IMAGE, "raw file of an Amnis instrument"),
        (MASK, "raw file of an Amnis instrument"),
        (ANALYSIS, "analysis file of IDEAS"),
        (b"FCS3.1    58    1000", "FCS file, which holds measurements"),
    ],
)
def test_the_content_tells(raw, words):
    assert words in refuse(raw, "cell.tif")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run.cif", "raw file"),
        ("a/RUN.RIF", "raw file"),
        ("run.daf", "analysis file"),
        ("run.fcs", "measurements"),
    ],
)
@pytest.mark.parametrize("raw", [b"something else", tiff(PIXELS)[:100]])
def test_the_name_tells_where_the_content_does_not(raw, name, words):
    assert words in refuse(raw, name)


def test_an_image_is_read_whatever_its_name():
    np.testing.assert_array_equal(images.decode(tiff(PIXELS), "cell.cif", 10**6)[0][1], PIXELS)


def test_images_that_an_instrument_exported_are_read():
    raw = tiff(PIXELS, extratags=EXPORTED, metadata=None)
    np.testing.assert_array_equal(images.decode(raw, "1_Ch1.ome.tif", 10**6)[0][1], PIXELS)


def test_nothing_is_said_of_other_files(tmp_path):
    assert instruments.explain("notes.txt", b"<html><Assay>") is None
    assert instruments.explain("cell.tif", b"II*\0") is None
    assert instruments.explain_file(tmp_path) is None
    assert instruments.explain_file(tmp_path / "gone.cif") is None
    (tmp_path / "cell").write_bytes(HEADER)
    assert "raw file" in str(instruments.explain_file(tmp_path / "cell"))


@pytest.mark.parametrize(("name", "words"), [("eosinophil.cif", "raw file"), ("example.daf", "analysis file")])
def test_real_files_are_told(name, words):
    if not (SHARED / name).exists():
        pytest.skip(f"the real file is not here: {SHARED / name}")
    assert words in refuse((SHARED / name).read_bytes(), "renamed.tif")
    assert words in str(instruments.explain_file(SHARED / name))
