import os
import time

import numpy as np
import pandas as pd
import pytest

from fatescope.data import features
from fatescope.data.features import ACQUISITION
from fatescope.inference import bundle, uncertainty
from service.inference.batcher import Batcher
from service.inference.decoding import CellDecoder
from service.inference.files import Upload
from service.inference.model_pool import ServedModel
from service.inference.prediction_log import PredictionLog
from service.inference.runner_output import RunnerOutput
from service.registry import model_store
from service.registry.model_store import Champion
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.images import draw_cell, tiff


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "multiclass"
    copy_bundle(folder, "multiclass")
    champion = Champion("multiclass", "7", folder)
    spec = model_store.read_spec(champion)
    return ServedModel(champion, spec, "onnxruntime", CellDecoder(spec), Batcher(None, "multiclass"))


def add(prediction_log, model, count, seed=0):
    rng = np.random.default_rng(seed)
    pixels = [draw_cell(rng, 40 + i % 5, 60) for i in range(count)]
    cells = [model.decoder.decode_one(Upload(tiff(crop), "cell.tif")) for crop in pixels]
    rows = rng.normal(1, 1, (count, 4 + 1 + bundle.COMPONENTS)).astype(np.float32)
    output = RunnerOutput.unpack(rows, 4)
    prediction_log.add(f"request{seed}", model, cells, output, output.assess(model.spec))
    return pixels, rows


def read(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*/*.parquet"))], ignore_index=True)


def test_every_prediction_has_its_row_once_the_log_is_closed(model, tmp_path):
    prediction_log = PredictionLog(tmp_path, 30)
    pixels, rows = add(prediction_log, model, 13)
    add(prediction_log, model, 5, seed=1)
    prediction_log.close()
    table = read(tmp_path)
    assert table["request_id"].tolist() == ["request0"] * 13 + ["request1"] * 5
    assert table["version"].unique().tolist() == ["7"]
    np.testing.assert_allclose(table["distance"][:13], rows[:, 4], rtol=1e-6)
    np.testing.assert_allclose(table["e0"][:13], rows[:, 5], rtol=1e-6)
    expected = uncertainty.softmax(rows[:, :4])
    np.testing.assert_allclose(table[[f"p_{name}" for name in CLASSES]][:13], expected, rtol=1e-5)
    for i, crop in enumerate(pixels):
        expected = features.acquisition(crop[None], 16)[0]
        np.testing.assert_allclose(table.loc[i, list(ACQUISITION)].to_numpy(float), expected, rtol=1e-5)
        assert table.loc[i, "height"] == len(crop)
    assert abs(table["time"][0].timestamp() - time.time()) < 60
    assert not [name for name in table.columns if "pixel" in name or "file" in name]


def test_gateways_of_several_machines_share_a_folder(model, tmp_path):
    # Containers may have equal process numbers, in the same second, with equal file numbers.
    logs = [PredictionLog(tmp_path, 30) for _ in range(2)]
    for seed, log in enumerate(logs):
        add(log, model, 3, seed)
    for log in logs:
        log.close()
    assert sorted(read(tmp_path)["request_id"].unique()) == ["request0", "request1"]


def test_old_files_are_deleted_and_without_a_folder_nothing_is_written(model, tmp_path, monkeypatch):
    old = tmp_path / "multiclass" / "old.parquet"
    old.parent.mkdir()
    old.write_bytes(b"")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    prediction_log = PredictionLog(tmp_path, 30)
    monkeypatch.setattr("service.inference.prediction_log.MAX_ROWS", 4)
    add(prediction_log, model, 5)
    end = time.monotonic() + 60
    while old.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    prediction_log.close()
    assert len(read(tmp_path)) == 5
    silent = PredictionLog(None, 30)
    add(silent, model, 3)
    silent.close()
    assert len(read(tmp_path)) == 5


def test_a_folder_that_cannot_be_written_fails_no_request(model, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    prediction_log = PredictionLog(tmp_path / "file", 30)
    add(prediction_log, model, 3)
    prediction_log.close()
    assert "3 predictions could not be written" in caplog.text
