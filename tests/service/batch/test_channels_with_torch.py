"""A batch job with a model of two channels: the files of one object are one cell, also when they come one by one."""

import json

import numpy as np
import pandas as pd
import pytest

from fatescope.inference import bundle
from service.batch import run
from tests.support.bundles import EXACT
from tests.support.images import tiff, typical
from tests.support.native import acquisition_xml, draw_objects, native
from tests.support.untrained import scatter, write_bundle

CHANNELS = {"1": "brightfield", "6": "darkfield"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FATESCOPE_ENGINE", EXACT["FATESCOPE_ENGINE"])
    write_bundle(tmp_path / "bundle", "binary", ["astrocyte", "oligodendrocyte"], channels=CHANNELS)
    (tmp_path / "source").mkdir()
    for seed in range(5):
        for channel, pixels in (("1", typical(seed)), ("4", typical(9)), ("6", scatter(seed))):
            (tmp_path / f"source/a_1d1_{seed}_Ch{channel}.ome.tif").write_bytes(tiff(pixels))
    return tmp_path


def score(folder):
    run.score(folder / "source", folder / "out", model=folder / "bundle", workers=1, threads=1)
    refused = [pd.read_parquet(path) for path in (folder / "out/refused").iterdir()]
    return (
        json.loads((folder / "out/summary.json").read_text()),
        pd.read_parquet(folder / "out/cells").sort_values("file", ignore_index=True),
        [row for part in refused for row in part.to_dict("records")],
    )


def test_the_files_of_an_object_are_one_cell(folder):
    summary, cells, refused = score(folder)
    assert (summary["cells"], refused) == (5, [])
    assert cells["file"].tolist() == [f"a_1d1_{seed}_Ch1.ome.tif" for seed in range(5)]
    model = bundle.load(folder / "bundle", threads=1)
    expected = model.classify([np.stack([typical(seed), scatter(seed)]) for seed in range(5)])
    for name in model.spec.classes:
        np.testing.assert_allclose(cells[f"p_{name}"], [cell.probabilities[name] for cell in expected], atol=1e-5)


@pytest.mark.parametrize("late", ["1", "6"])
def test_a_channel_that_comes_later_turns_a_refusal_into_a_cell(folder, late):
    path = folder / f"source/a_1d1_2_Ch{late}.ome.tif"
    raw = path.read_bytes()
    path.unlink()
    summary, cells, [refused] = score(folder)
    assert (summary["cells"], summary["refused"]) == (4, {"missing_channel": 1})
    assert refused["file"] == f"a_1d1_2_Ch{ {'1': '6', '6': '1'}[late] }.ome.tif"
    path.write_bytes(raw)
    summary, cells, refused = score(folder)
    assert (summary["cells"], summary["refused"], summary["vanished"], refused) == (5, {}, 0, [])
    # And back.
    path.unlink()
    summary, cells, refused = score(folder)
    assert (summary["cells"], summary["refused"], len(cells), len(refused)) == (4, {"missing_channel": 1}, 4, 1)


def test_a_channel_that_changes_is_classified_again(folder):
    before = score(folder)[1]
    (folder / "source/a_1d1_3_Ch6.ome.tif").write_bytes(tiff(scatter(11)))
    after = score(folder)[1]
    changed = (before["distance"] != after["distance"]).tolist()
    assert changed == [False, False, False, True, False]


def test_a_native_file_has_all_channels_of_its_objects(folder):
    objects = draw_objects(3, channels=(1, 6))
    xml = acquisition_xml(channels=(1, 6), brightfield=(1,))
    (folder / "source/a_1d1.cif").write_bytes(native(objects, xml=xml))
    (folder / "source/o_1d1.cif").write_bytes(native(draw_objects(2), xml=acquisition_xml()))
    summary, cells, [refused] = score(folder)
    assert summary["cells"] == 8
    assert refused["code"] == "missing_channel"
    assert "o_1d1.cif: has no channel 6, which dataset.channels names; in use are [1]" in refused["reason"]
    model = bundle.load(folder / "bundle", threads=1)
    [expected, *_] = model.classify([objects[0][0]])
    found = cells[cells["file"] == "a_1d1.cif"].iloc[0]
    assert found["p_astrocyte"] == pytest.approx(expected.probabilities["astrocyte"], abs=1e-5)
