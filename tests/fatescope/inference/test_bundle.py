import json
import re

import numpy as np
import pytest

import fatescope
from fatescope.errors import BundleError, DataError, ImageError
from fatescope.inference import bundle
from fatescope.inference.uncertainty import VERDICTS
from tests.support.bundles import CANVAS, CLASSES, copy_bundle
from tests.support.images import tiff, typical


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("model") / "bundle"
    copy_bundle(target, "multiclass")
    return target


@pytest.fixture(scope="module")
def model(folder):
    return fatescope.load(str(folder), threads=1)


def test_predict_takes_pixels_on_the_canvas(model):
    prediction = model.predict(model.example)
    np.testing.assert_allclose(prediction.logits, model.expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1, rtol=1e-5)
    assert prediction.embedding.shape[0] == len(model.example)


@pytest.mark.parametrize("shape", [CANVAS, (2, 45, 60), (2, 1, *CANVAS)])
def test_predict_names_the_shape_that_it_takes(model, shape):
    with pytest.raises(DataError, match=rf"shape {re.escape(str(shape))}; the model takes \(B, 60, 80\)"):
        model.predict(np.zeros(shape, np.uint16))


def test_classify_answers_for_crops_of_any_size(model):
    crops = [typical(seed, height=40 + seed % 7, width=50 + seed % 5) for seed in range(bundle.BATCH + 2)]
    cells = model.classify(crops)
    assert len(cells) == len(crops)
    for cell in cells:
        assert list(cell.probabilities) == CLASSES
        assert sum(cell.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert cell.label == max(CLASSES, key=cell.probabilities.get)
        assert cell.label in cell.conformal_set
        assert cell.verdict in VERDICTS
    assert [cell.label for cell in cells[:2]] == [model.classify(crop)[0].label for crop in crops[:2]]
    assert model.classify([]) == []


def test_classify_reads_a_file_page_by_page(model, tmp_path):
    pages = np.stack([typical(1), typical(2)])
    path = tmp_path / "cells.tif"
    path.write_bytes(tiff(pages, photometric="minisblack"))
    from_file, from_memory = model.classify(path), model.classify(list(pages))
    assert [cell.label for cell in from_file] == [cell.label for cell in from_memory]
    for one, other in zip(from_file, from_memory, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-5)


def test_a_crop_beyond_the_canvas_is_cut(model):
    large = typical(1, height=70, width=100)
    assert model.classify(large)[0].probabilities == pytest.approx(
        model.classify(large[5:65, 10:90])[0].probabilities, rel=1e-5
    )


@pytest.mark.parametrize(
    ("crop", "code", "message"),
    [
        (np.zeros((45, 60), np.float32), "bit_depth", r"crop 1: pixels of type float32"),
        (np.zeros((45, 60, 3), np.uint8), "channels", r"crop 1: an array of shape \(45, 60, 3\)"),
        (np.zeros((4, 60), np.uint8), "too_small", r"crop 1: 4x60 px .* 8 px"),
    ],
)
def test_a_crop_that_cannot_be_a_cell_is_named(model, crop, code, message):
    with pytest.raises(ImageError, match=message) as caught:
        model.classify([typical(1), crop])
    assert caught.value.code == code


def test_a_file_of_another_bit_depth_is_refused(model, tmp_path):
    path = tmp_path / "cell.tif"
    path.write_bytes(tiff(typical(1).astype(np.uint8)))
    with pytest.raises(ImageError, match=r"8 bits per pixel, but the model was trained on 16 bits"):
        model.classify(path)
    with pytest.raises(ImageError, match="cannot be read"):
        model.classify(tmp_path / "none.tif")


def test_a_changed_file_is_detected(folder, tmp_path):
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    with (copy / bundle.TEST).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"test\.safetensors was changed"):
        fatescope.load(copy)
    (copy / bundle.TEST).unlink()
    with pytest.raises(BundleError, match=r"test\.safetensors is missing"):
        fatescope.load(copy)


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 3}, "update"), ({"format": 1}, "reads 2"), ({"opset": 99}, "opset 99")]
)
def test_a_bundle_of_another_format_is_refused(folder, tmp_path, change, message):
    spec = json.loads((folder / bundle.SPEC).read_text())
    (tmp_path / bundle.SPEC).write_text(json.dumps(spec | change))
    with pytest.raises(BundleError, match=message):
        fatescope.load(tmp_path)


def test_a_folder_that_is_no_bundle_says_how_to_get_one(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        fatescope.load(tmp_path)
