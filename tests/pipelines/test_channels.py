"""A model of two channels, from an export to the report on it, and what becomes of cells that lack one."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from fatescope.data import dataset, images
from fatescope.data.crops import center
from fatescope.errors import DataError, ImageError
from fatescope.inference import bundle
from monitoring.drift import Detector
from pipelines.evaluation import predict
from pipelines.stages.ingest import ingest
from tests.support.bundles import COMMITTED
from tests.support.images import draw_cell, tiff
from tests.support.native import acquisition_xml, draw_objects, native
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_register, run_stages

TWO = {"dataset.channels": {"1": "brightfield", "2": "darkfield"}, "dataset.marker_channels": []}


def test_the_files_of_one_object_are_one_cell_with_all_of_its_channels(make_params, export, tmp_path):
    settings = make_params(TWO)
    summary = ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    cells = dataset.load(tmp_path / "cells")
    assert (summary.cells, summary.other_channels, summary.channels) == (48, 0, settings.dataset.channels)
    assert cells.pixels.shape == (48, 2, 60, 80)
    assert cells.kinds == ("brightfield", "darkfield")
    for row, pixels in zip(cells.manifest.itertuples(), cells.pixels, strict=True):
        for channel, plane in zip(("1", "2"), pixels, strict=True):
            raw = (export / row.path.replace("_Ch1", f"_Ch{channel}")).read_bytes()
            [(_, expected)] = images.decode(raw, row.path, 1_000_000)
            np.testing.assert_array_equal(dataset.crop(plane, row.height, row.width), expected)
            np.testing.assert_array_equal(plane, center(expected, (60, 80), row.path))
    # The export has half the counts in the second channel.
    np.testing.assert_allclose(cells.manifest["mean_2"], cells.manifest["mean"] / 2, atol=0.5)


def test_the_order_of_the_settings_is_the_order_of_the_pixels(make_params, export, tmp_path):
    settings = make_params(TWO | {"dataset.channels": {"2": "darkfield", "1": "brightfield"}})
    ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    cells = dataset.load(tmp_path / "cells")
    assert cells.kinds == ("darkfield", "brightfield")
    assert cells.manifest["path"].str.contains("_Ch2").all()
    np.testing.assert_allclose(cells.manifest["mean"], cells.manifest["mean_1"] / 2, atol=0.5)


@pytest.mark.parametrize("lost", ["1", "2"])
def test_an_object_without_one_of_the_channels_is_refused_with_its_code(make_params, export, tmp_path, lost):
    (export / f"a_1d1_3_Ch{lost}.ome.tif").unlink()
    settings = make_params(TWO | {"ingest.max_refused_share": 0.1})
    summary = ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (47, {"missing_channel": 1})
    kept = {"1": "2", "2": "1"}[lost]
    [row] = pd.read_parquet(tmp_path / "cells/quarantine.parquet").to_dict("records")
    assert row["path"] == f"a_1d1_3_Ch{kept}.ome.tif"
    assert row["reason"].endswith(f"has no file of channel {lost} beside it; export all of dataset.channels")


def test_channels_of_different_sizes_are_not_of_one_object(make_params, export, tmp_path, rng):
    (export / "a_1d1_3_Ch2.ome.tif").write_bytes(tiff(draw_cell(rng, 30, 31)))
    settings = make_params(TWO | {"ingest.max_refused_share": 0.1})
    summary = ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    assert summary.refused == {"channels_differ": 1}
    [row] = pd.read_parquet(tmp_path / "cells/quarantine.parquet").to_dict("records")
    assert "channel 2 is 30x31 px (height x width) of 16 bits, but channel 1 is" in row["reason"]


def test_a_second_file_of_the_same_channel_is_listed_and_not_read(make_params, export, tmp_path):
    (export / "a_1d1_3_Ch02.ome.tif").write_bytes((export / "a_1d1_3_Ch2.ome.tif").read_bytes())
    settings = make_params(TWO)
    summary = ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    assert (summary.cells, summary.unreadable, summary.refused) == (48, 1, {})
    [row] = pd.read_parquet(tmp_path / "cells/quarantine.parquet").to_dict("records")
    assert "is the same channel of the same object as a_1d1_3_Ch0" in row["reason"]


def test_channels_may_be_folders(make_params, export, tmp_path):
    other = tmp_path / "folders"
    for path in export.iterdir():
        start, _, channel = path.name.removesuffix(".ome.tif").rpartition("_Ch")
        (other / f"Ch{channel}").mkdir(parents=True, exist_ok=True)
        path.rename(other / f"Ch{channel}" / f"{start}.tif")
    pattern = r"Ch(?P<channel>\d+)/(?P<medium>[a-z]+)_(?P<day>\d+)d(?P<run>\d+)_(?P<object>\d+)\.tif$"
    settings = make_params(TWO | {"dataset.pattern": pattern})
    summary = ingest(settings.dataset, settings.ingest, other, tmp_path / "cells")
    assert (summary.cells, summary.refused) == (48, {})
    kept = make_params(TWO | {"dataset.pattern": pattern, "ingest.share": 0.5})
    assert ingest(kept.dataset, kept.ingest, other, tmp_path / "half").cells == 24


def test_objects_of_native_files_have_all_channels_of_the_settings(make_params, tmp_path):
    objects = draw_objects(4, channels=(1, 5, 6))
    (tmp_path / "data").mkdir()
    xml = acquisition_xml(channels=(1, 5, 6), brightfield=(5,))
    (tmp_path / "data/a_1d1.cif").write_bytes(native(objects, xml=xml))
    settings = make_params(TWO | {"dataset.channels": {"5": "brightfield", "1": "darkfield"}})
    summary = ingest(settings.dataset, settings.ingest, tmp_path / "data", tmp_path / "cells")
    assert (summary.cells, summary.refused) == (4, {})
    cells = dataset.load(tmp_path / "cells")
    for row, pixels, (channels, _) in zip(cells.manifest.itertuples(), cells.pixels, objects, strict=True):
        np.testing.assert_array_equal(dataset.crop(pixels, row.height, row.width), channels[[1, 0]])
        assert row.mean_1 == pytest.approx(channels[0].mean(), rel=1e-4)
    settings = make_params(TWO | {"dataset.channels": {"5": "brightfield", "9": "darkfield"}})
    with pytest.raises(DataError, match=r"has no channel 9, which dataset.channels names; in use are \[1, 5, 6\]"):
        ingest(settings.dataset, settings.ingest, tmp_path / "data", tmp_path / "again")


def test_where_no_channel_is_there_the_reason_names_all(make_params, export, tmp_path):
    settings = make_params({"dataset.channels": {"7": "brightfield", "8": "darkfield"}})
    with pytest.raises(DataError, match=r"no file has channel '7' or '8', but there are \{'1': 48, '2': 48\}"):
        ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")


def write_two_channels(folder, rng):
    """Write cells of two classes that look alike in channel 1, and scatter from areas of two sizes in channel 2."""
    folder.mkdir()
    for medium, radius in (("a", 8), ("o", 14)):
        for run in (1, 2, 3):
            for number in range(8):
                height, width = rng.integers(40, 50), rng.integers(50, 70)
                scatter = 1000 - draw_cell(rng, height, width, radius, level=900)
                for channel, pixels in (("1", draw_cell(rng, height, width, 11)), ("2", scatter.astype(np.uint16))):
                    (folder / f"{medium}_1d{run}_{number}_Ch{channel}.ome.tif").write_bytes(tiff(pixels))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Run the stages up to the card on two channels of made-up cells; return the folder."""
    folder = tmp_path_factory.mktemp("channels")
    quick = {"train.epochs": 12, "train.seeds": [0], "tune.trials": 0}
    params = write_params(folder, CHANGES | TWO | quick)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_two_channels(folder / "data", np.random.default_rng(0))
        mlflow.set_tracking_uri(None)
        run_stages(folder, params)
    mlflow.set_tracking_uri(None)
    return folder


@pytest.mark.slow
def test_a_model_sees_both_channels_from_the_export_to_the_report(project):
    model = bundle.load(project / "artifacts/binary/bundle", threads=1)
    model.check()
    assert model.spec.channels == TWO["dataset.channels"]
    assert model.example.shape == (8, 2, 60, 80)
    cells = dataset.load(project / "artifacts/cells")
    predictions = pd.read_parquet(project / "artifacts/binary/predictions.parquet").set_index("cell_id")
    some = predictions[predictions["split"] == "grouped"].index[:5]
    rows = cells.manifest.reset_index().set_index("cell_id").loc[some, "index"].to_numpy()
    expected = predictions[predictions["split"] == "grouped"].loc[some, [f"p_{n}" for n in model.spec.classes]]
    found = model.predict(cells.pixels[rows]).probabilities
    np.testing.assert_allclose(found, expected.to_numpy(), atol=1e-5)
    # Only the second channel tells the classes apart: with that of another cell the answer is that for the other.
    metrics = json.loads((project / "reports/binary/metrics.json").read_text())
    assert metrics["splits"]["grouped"]["balanced_accuracy"] > 0.9
    tested = cells.manifest["label"].iloc[rows].to_numpy()
    others = [np.flatnonzero(cells.manifest["label"] != label)[0] for label in tested]
    exchanged = np.stack([cells.pixels[rows][:, 0], cells.pixels[others][:, 1]], axis=1)
    assert (model.predict(exchanged).logits.argmax(1) != model.predict(cells.pixels[rows]).logits.argmax(1)).all()
    # Crops in memory, as a notebook has them, give the same.
    crops = [dataset.crop(cells.pixels[row], *cells.manifest.loc[row, ["height", "width"]].astype(int)) for row in rows]
    told = [list(answer.probabilities.values()) for answer in model.classify(crops)]
    np.testing.assert_allclose(told, found, atol=1e-5)
    with pytest.raises(DataError, match=r"the model takes \(B, 2, 60, 80\)"):
        model.predict(cells.pixels[rows][:, 0])
    with pytest.raises(ImageError, match=r"expected \(2, height, width\)"):
        model.classify(crops[0][0])


def test_a_champion_of_one_channel_is_asked_of_cells_of_two(make_params, export, tmp_path):
    settings = make_params(TWO | {"dataset.channels": {"2": "darkfield", "1": "brightfield"}})
    ingest(settings.dataset, settings.ingest, export, tmp_path / "cells")
    both, rows = dataset.load(tmp_path / "cells"), np.arange(6)
    model = bundle.load(COMMITTED / "binary", threads=1)
    expected = model.predict(both.pixels[rows, 1]).probabilities
    np.testing.assert_array_equal(predict.assess(model, both, rows).probabilities, expected)
    other = make_params({"dataset.channels": {"2": "brightfield"}, "dataset.marker_channels": []})
    ingest(other.dataset, other.ingest, export, tmp_path / "others")
    with pytest.raises(DataError, match=r"takes channel 1 of a cell, but these cells were ingested with \['2'\]"):
        predict.assess(model, dataset.load(tmp_path / "others"), rows)


@pytest.mark.slow
def test_the_registry_keeps_a_model_of_two_channels(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    mlflow.set_tracking_uri(None)
    try:
        verdict = run_register(project)
        assert (verdict["version"], verdict["champion"]) == ("1", True)
        model = bundle.load(project / "artifacts/binary/bundle", threads=1)
        table = mlflow.pyfunc.load_model("models:/fatescope-binary@champion").predict({"pixels": model.example})
        expected = model.predict(model.example).probabilities
        np.testing.assert_allclose(table[[f"p_{name}" for name in model.spec.classes]], expected, atol=1e-5)
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_the_audit_says_by_which_channel_a_pair_is_told_apart(project):
    audit = json.loads((project / "reports/audit.json").read_text())
    [pair] = audit["pairs"]
    assert set(pair["channels"]) == {"1", "2"}
    assert pair["channels"]["2"] > 0.9
    assert pair["channels"]["1"] < 0.75
    card = (project / "reports/binary/card.md").read_text()
    assert "Classifies brightfield and darkfield images of single cells" in card
    assert "| Channel | brightfield, channel 1, then darkfield, channel 2 of the export: all of each cell |" in card
    assert f"| astrocyte / oligodendrocyte | {pair['channels']['1']:.3f} | {pair['channels']['2']:.3f} |" in card
    assert {"border", "border, channel 2", "crop"} <= set(audit["acquisition"]["raw"])
    assert "crop, channel 2" not in audit["acquisition"]["raw"]


@pytest.mark.slow
def test_drift_is_measured_in_each_channel(project):
    reference = pd.read_parquet(project / "artifacts/binary/bundle/reference.parquet")
    assert {"background", "background_2", "focus_2"} <= set(reference)
    like = Detector(reference).evaluate(reference)
    assert not [finding for finding in like.findings if finding.drifted]
    brighter = Detector(reference).evaluate(reference.assign(mean_2=reference["mean_2"] + 50))
    assert {finding.statistic for finding in brighter.findings if finding.drifted} >= {"ks_mean_2", "psi_mean_2"}
