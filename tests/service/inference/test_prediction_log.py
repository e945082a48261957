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
from tests.support.bundles import CLASSES, EXACT, copy_bundle
from tests.support.images import draw_cell, tiff
from tests.support.project import ROOT
from tests.support.servers import serving


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "multiclass"
    copy_bundle(folder, "multiclass")
    champion = Champion("multiclass", "7", folder)
    spec = model_store.read_spec(champion)
    return ServedModel(champion, spec, "onnxruntime", CellDecoder(spec), Batcher(None, "multiclass"))


def add(recorder, model, count, seed=0):
    rng = np.random.default_rng(seed)
    pixels = [draw_cell(rng, 40 + i % 5, 60) for i in range(count)]
    cells = [model.decoder.decode_one(Upload(tiff(each), "cell.tif")) for each in pixels]
    rows = rng.normal(1, 1, (count, 4 + 1 + bundle.COMPONENTS)).astype(np.float32)
    output = RunnerOutput.unpack(rows, 4)
    recorder.add(f"request{seed}", model, cells, output, output.assess(model.spec))
    return pixels, rows


def read(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*/*.parquet"))], ignore_index=True)


def test_every_prediction_has_its_row_when_it_is_closed(model, tmp_path):
    recorder = PredictionLog(tmp_path, 30)
    pixels, rows = add(recorder, model, 13)
    add(recorder, model, 5, seed=1)
    recorder.close()
    table = read(tmp_path)
    assert table["request_id"].tolist() == ["request0"] * 13 + ["request1"] * 5
    assert table["version"].unique().tolist() == ["7"]
    np.testing.assert_allclose(table["distance"][:13], rows[:, 4], rtol=1e-6)
    np.testing.assert_allclose(table["e0"][:13], rows[:, 5], rtol=1e-6)
    expected = uncertainty.softmax(rows[:, :4])
    np.testing.assert_allclose(table[[f"p_{name}" for name in CLASSES]][:13], expected, rtol=1e-5)
    for i, each in enumerate(pixels):
        expected = features.acquisition(each[None], 16)[0]
        np.testing.assert_allclose(table.loc[i, list(ACQUISITION)].to_numpy(float), expected, rtol=1e-5)
        assert table.loc[i, "height"] == len(each)
    assert abs(table["time"][0].timestamp() - time.time()) < 60
    assert not [name for name in table.columns if "pixel" in name or "file" in name]


def test_gateways_of_several_machines_share_a_folder(model, tmp_path):
    # As containers have it: the same number of the process, the same second, the same number of the file.
    recorders = [PredictionLog(tmp_path, 30) for _ in range(2)]
    for seed, each in enumerate(recorders):
        add(each, model, 3, seed)
    for each in recorders:
        each.close()
    assert sorted(read(tmp_path)["request_id"].unique()) == ["request0", "request1"]


def test_what_is_old_goes_and_off_writes_nothing(model, tmp_path, monkeypatch):
    old = tmp_path / "multiclass" / "old.parquet"
    old.parent.mkdir()
    old.write_bytes(b"")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    recorder = PredictionLog(tmp_path, 30)
    monkeypatch.setattr("service.inference.prediction_log.MAX_ROWS", 4)
    add(recorder, model, 5)
    end = time.monotonic() + 20
    while old.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    recorder.close()
    assert len(read(tmp_path)) == 5
    silent = PredictionLog(None, 30)
    add(silent, model, 3)
    silent.close()
    assert len(read(tmp_path)) == 5


def test_a_folder_that_cannot_be_written_costs_no_request(model, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    recorder = PredictionLog(tmp_path / "file", 30)
    add(recorder, model, 3)
    recorder.close()
    assert "3 predictions could not be written" in caplog.text


@pytest.mark.slow
def test_rows_survive_the_end_of_the_service(tmp_path):
    copy_bundle(tmp_path / "bundles" / "multiclass", "multiclass")
    pages = tiff(np.stack([draw_cell(np.random.default_rng(0))] * 300), photometric="minisblack")
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(tmp_path / "bundles"), **EXACT}) as client:
        answer = client.post("/classify_batch", content=pages).raise_for_status().json()
        single = client.post("/classify", content=tiff(draw_cell(np.random.default_rng(0)))).raise_for_status().json()
    table = read(tmp_path / "records")
    assert table["request_id"].value_counts().to_dict() == {answer["request_id"]: 300, single["request_id"]: 1}
    assert table["label"].tolist().count(answer["cells"][0]["label"]) >= 300
