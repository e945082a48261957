import dataclasses
import os
import time
import weakref

import numpy as np
import pandas as pd
import pytest

from fatescope.data import features
from fatescope.data.cell_facts import PREFIX, CellFacts
from fatescope.data.features import ACQUISITION
from fatescope.inference import bundle, uncertainty
from service.inference import metrics, prediction_log, recorded_cells
from service.inference.batcher import Batcher
from service.inference.decoding import CellDecoder
from service.inference.files import Upload
from service.inference.prediction_log import PredictionLog
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel
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


def unrecorded():
    return metrics.UNRECORDED._value.get()


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


def test_what_the_disk_cannot_keep_up_with_is_counted_and_not_kept_in_memory(model, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "MAX_QUEUED_ROWS", 5)
    log, lost = PredictionLog(tmp_path, 30), unrecorded()
    for seed in range(3):
        add(log, model, 3 - seed, seed)
    assert unrecorded() - lost == 1, "of 3, 2 and 1"
    log.close()
    assert read(tmp_path)["request_id"].tolist() == ["request0"] * 3 + ["request1"] * 2


def test_what_comes_after_the_end_is_counted(model, tmp_path):
    log, lost = PredictionLog(tmp_path, 30), unrecorded()
    log.close()
    add(log, model, 2)
    assert unrecorded() - lost == 2
    assert log._queue == []


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


def test_gateways_may_expire_the_same_files_at_the_same_moment(model, tmp_path, monkeypatch, caplog):
    """The recording thread ended when another gateway had removed a file between its listing and its turn."""
    folder = tmp_path / "multiclass"
    folder.mkdir()

    def expired():
        for i in range(300):
            (folder / f"old{i}.parquet").write_bytes(b"")
            os.utime(folder / f"old{i}.parquet", (time.time() - 40 * 86400,) * 2)

    monkeypatch.setattr("service.inference.prediction_log.EXPIRY_INTERVAL_S", 0.001)
    logs = [PredictionLog(tmp_path, 30) for _ in range(3)]
    end = time.monotonic() + 60
    for _ in range(5):
        expired()
        while any(folder.glob("old*")):
            assert time.monotonic() < end
            time.sleep(0.001)
    for seed, log in enumerate(logs):
        add(log, model, 3, seed)
        log.close()
    assert sorted(read(tmp_path)["request_id"].unique()) == ["request0", "request1", "request2"]
    assert [log._expiry.failures + log._recording.failures for log in logs] == [0, 0, 0]
    assert not caplog.text


def test_a_file_that_goes_between_its_listing_and_its_turn_is_no_error(model, tmp_path):
    folder = tmp_path / "multiclass"
    folder.mkdir()
    (folder / "gone.parquet").symlink_to(folder / "nowhere")
    prediction_log = PredictionLog(tmp_path, 30)
    add(prediction_log, model, 3)
    prediction_log.close()
    assert prediction_log._expiry.failures == 0
    assert (folder / "gone.parquet").is_symlink()
    (folder / "gone.parquet").unlink()
    assert len(read(tmp_path)) == 3


def test_rows_that_cannot_be_written_are_counted_and_keep_no_others_from_it(model, tmp_path, monkeypatch, caplog):
    """Whatever goes wrong: only errors of the disk were expected, and any other ended the thread."""
    monkeypatch.setattr("service.inference.prediction_log.MAX_AGE_S", 0.01)
    log, tabulated, lost = PredictionLog(tmp_path, 30), prediction_log.tabulate, unrecorded()
    bad = dataclasses.replace(model, champion=dataclasses.replace(model.champion, version="8"))

    def fails_for_version_8(entries, describe):
        if entries[0].model.champion.version == "8":
            raise ValueError("arrays of unequal length")
        return tabulated(entries, describe)

    monkeypatch.setattr("service.inference.prediction_log.tabulate", fails_for_version_8)
    add(log, bad, 4)
    end = time.monotonic() + 60
    while log._recording.failures == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    add(log, bad, 4, seed=1)
    add(log, model, 3, seed=2)
    log.close()
    assert read(tmp_path)["request_id"].tolist() == ["request2"] * 3
    assert unrecorded() - lost == 8
    assert caplog.text.count("ValueError: arrays of unequal length") == 1, "once, not each time"
    assert not list(tmp_path.glob("*/.*")), "no part of a file is left"


def test_files_expire_in_a_service_without_requests(tmp_path):
    old = tmp_path / "multiclass" / "old.parquet"
    old.parent.mkdir()
    old.write_bytes(b"")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    prediction_log = PredictionLog(tmp_path, 30)
    end = time.monotonic() + 60
    while old.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    prediction_log.close()


def wait_until(reached):
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pixels_are_dropped_long_before_a_file_is_written(model, tmp_path, monkeypatch):
    """Thousands of cells took tens of megabytes, which are asked for anew each time: requests took longer for it."""
    monkeypatch.setattr(prediction_log, "TABULATED_ROWS", 6)
    cells = [model.decoder.decode_one(Upload(tiff(draw_cell(np.random.default_rng(i))), "cell.tif")) for i in range(7)]
    natives = [weakref.ref(cell.native) for cell in cells]
    rows = np.random.default_rng(0).normal(1, 1, (7, 4 + 1 + bundle.COMPONENTS)).astype(np.float32)
    log = PredictionLog(tmp_path, 30)
    for i, cell in enumerate(cells):
        output = RunnerOutput.unpack(rows[i : i + 1], 4)
        log.add(f"request{i}", model, [cell], output, output.assess(model.spec))
    del cells, cell
    wait_until(lambda: sum(native() is None for native in natives) >= 6)
    assert not list(tmp_path.glob("*/*.parquet"))
    log.close()
    assert read(tmp_path)["request_id"].tolist() == [f"request{i}" for i in range(7)]
    assert len(list(tmp_path.glob("*/*.parquet"))) == 1


def test_a_file_has_the_columns_of_all_its_parts(model, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "TABULATED_ROWS", 1)
    facts = [None, CellFacts(instrument="FlowSight", magnification=20), CellFacts(flow_speed=41.5), None]
    log = PredictionLog(tmp_path, 30)
    for i, of_cell in enumerate(facts):
        cell = model.decoder.decode_one(Upload(tiff(draw_cell(np.random.default_rng(i))), "cell.tif"))
        output = RunnerOutput.unpack(np.ones((1, 4 + 1 + bundle.COMPONENTS), np.float32), 4)
        log.add(f"request{i}", model, [dataclasses.replace(cell, facts=of_cell)], output, output.assess(model.spec))
        wait_until(lambda: log._queued_rows == 0)
    log.close()
    [path] = tmp_path.glob("*/*.parquet")
    table = pd.read_parquet(path)
    known = table[[name for name in table.columns if name.startswith(PREFIX)]]
    assert known[f"{PREFIX}instrument"].fillna("").tolist() == ["", "FlowSight", "", ""]
    assert known[f"{PREFIX}magnification"].fillna(0).tolist() == [0, 20, 0, 0]
    assert known[f"{PREFIX}flow_speed"].fillna(0).tolist() == [0, 0, 41.5, 0]


def test_a_part_that_cannot_be_tabulated_costs_no_other(model, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "TABULATED_ROWS", 2)
    log, lost = PredictionLog(tmp_path, 30, describe=fails_once()), unrecorded()
    add(log, model, 2)
    wait_until(lambda: unrecorded() - lost == 2)
    add(log, model, 2, seed=1)
    log.close()
    assert read(tmp_path)["request_id"].tolist() == ["request1"] * 2


def fails_once():
    left = [MemoryError("no room for pixels")]

    def describe(crops, bit_depths):
        if left:
            raise left.pop()
        return recorded_cells.describe(crops, bit_depths)

    return describe
