import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from fatescope.data.crops import center
from fatescope.inference import bundle
from service.inference import file_limits, files
from service.inference.decoded_cell import DecodedCell, FailedCell
from service.inference.decoding import CellDecoder
from service.inference.files import Upload
from tests.support import native
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import tiff, typical

GREY = (typical(0) // 4).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def spec():
    return bundle.read_spec(COMMITTED / "multiclass")


def encode(kind, pixels=GREY):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def decode(spec, raw, name="cell", **changes):
    return list(CellDecoder(spec.model_copy(update=changes)).decode(Upload(raw, name)))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG"])
def test_the_format_is_recognised_by_content_and_jpeg_is_lossy(spec, kind):
    [cell] = decode(spec, encode(kind), "cell.doc", bit_depths=[8])
    assert isinstance(cell, DecodedCell)
    assert [warning["code"] for warning in cell.warnings] == (["lossy"] if kind == "JPEG" else [])
    if kind != "JPEG":
        np.testing.assert_array_equal(cell.pixels, center(GREY, CANVAS, "x"))


def test_colour_is_rejected_and_grey_stored_as_colour_is_not(spec):
    [grey] = decode(spec, encode("PNG", np.stack([GREY] * 3, axis=-1)), bit_depths=[8])
    assert isinstance(grey, DecodedCell)
    [colour] = decode(spec, encode("PNG", np.stack([GREY, GREY, 255 - GREY], axis=-1)), bit_depths=[8])
    assert isinstance(colour, FailedCell)
    assert colour.error.code == "channels"


def test_a_page_beside_its_thumbnail_is_one_cell(spec):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(typical(0), metadata=None)
        writer.write(typical(0)[::2, ::2].copy(), subfiletype=1, metadata=None)
    raw = buffer.getvalue()
    alone = CellDecoder(spec.model_copy(update={"bit_depths": [16]})).decode_one(Upload(raw, "cell.tif"))
    [cell] = decode(spec, raw, bit_depths=[16])
    assert (alone.page, cell.page) == (None, None)
    np.testing.assert_array_equal(alone.native, typical(0))
    np.testing.assert_array_equal(cell.native, typical(0))


@pytest.mark.parametrize("how", [{"imagej": True, "truncate": True}, {"bigtiff": True, "photometric": "minisblack"}])
def test_every_slice_of_a_stack_is_a_cell(spec, how):
    stack = np.stack([typical(i) for i in range(3)])
    cells = decode(spec, tiff(stack, **how), bit_depths=[16])
    assert [cell.page for cell in cells] == [0, 1, 2]
    np.testing.assert_array_equal([cell.native for cell in cells], stack)


def test_raw_files_of_instruments_are_named(spec):
    [cell] = decode(spec, b"raw", "run/run.cif")
    assert isinstance(cell, FailedCell)
    assert cell.error.code == "not_an_image"
    assert str(cell.error).startswith("run/run.cif: a raw file of an Amnis instrument")
    assert "send the file itself" in str(files.too_large("run.cif"))
    assert files.too_large("run.fcs").code == "not_an_image"
    assert files.too_large("run.tif").code == "too_large"


def test_objects_that_share_their_bytes_end_at_a_number_of_pixels(spec, monkeypatch):
    pixels = np.zeros((40, 60), np.uint16)
    header, first, *others = native.parts([(pixels[None], pixels[None].astype(np.uint8))] * 50, masks=False)
    start = 8 + len(native.directory(8, *header, 1))
    data = start + 2 + 12 * (len(first[0]) + 1) + 4
    shared = [(entries | {273: (4, [data])}, b"") for entries, _ in others]
    raw = native.pack([header, first, *shared])
    upload = Upload(b"", "run.cif", file=io.BytesIO(raw))
    whole = list(CellDecoder(spec.model_copy(update={"bit_depths": [16]})).decode(upload))
    assert len(whole) == 50
    assert all(isinstance(cell, DecodedCell) for cell in whole)
    monkeypatch.setattr(file_limits, "MAX_FILE_PIXELS", 0)
    *cells, last = CellDecoder(spec).decode(upload)
    assert len(cells) == 2 * len(raw) // pixels.size + 1 < 50
    assert (last.error.code, last.object) == ("too_large", None)
    assert f"run.cif: the objects so far have {pixels.size * len(cells):,} px in all channels" in str(last.error)


@pytest.mark.parametrize(
    ("name", "number", "other"),
    [
        ("run/a_1d1_17_Ch1.ome.tif", 17, False),
        ("run/a_1d1_17_Ch4.ome.tif", 17, True),
        ("17_Ch1.ome.tif", 17, False),
        ("samples/17_Ch2.tif", 17, True),
        ("cell.tif", None, False),
        ("a_1d1_99999999999999999999_Ch1.ome.tif", None, False),
    ],
)
def test_object_and_channel_are_parsed_from_the_name(spec, name, number, other):
    decoder = CellDecoder(spec)
    assert decoder.channels.is_other(name) == other
    [cell] = decoder.decode(Upload(tiff(typical(0)), name))
    assert cell.object == number
    assert not CellDecoder(spec.model_copy(update={"channel": None})).channels.is_other(name), (
        "a model of one image a cell"
    )


@pytest.mark.parametrize(("lamp", "warned"), [(5, ["channel"]), (1, [])])
def test_a_lamp_in_another_channel_than_the_models_is_a_warning_at_every_cell(spec, lamp, warned):
    xml = native.acquisition_xml(channels=(1, 5), brightfield=(lamp,))
    raw = native.native(native.draw_objects(3, (1, 5), size=(44, 60)), xml=xml)
    cells = list(CellDecoder(spec).native.decode(io.BytesIO(raw), "run.cif"))
    assert len(cells) == 3
    for cell in cells:
        codes = [warning["code"] for warning in cell.warnings if warning["code"] == "channel"]
        assert codes == warned
    if warned:
        assert "read in channel 5, where the brightfield lamp was" in cells[0].warnings[-1]["message"]
