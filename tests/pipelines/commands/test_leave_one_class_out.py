import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from fatescope.data.dataset import CellDataset
from fatescope.errors import ParamsError
from pipelines.commands import leave_one_class_out
from pipelines.stages import ingest, split
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params

QUICK = {
    "train.backbone": "compact",
    "train.epochs": 30,
    "train.batch_size": 8,
    "train.learning_rate": 0.01,
    "train.patience": 99,
    "train.threads": 1,
    "train.seeds": [0],
    "calibrate.folds": 2,
    "dataset.tasks": {"multiclass": ["astrocyte", "oligodendrocyte", "NT3"]},
}


@pytest.mark.slow
def test_an_unknown_medium_is_called_what_it_resembles(tmp_path):
    rng, data = np.random.default_rng(0), tmp_path / "data"
    data.mkdir()
    for medium, radius in (("a", 7), ("o", 15), ("nt3", 13)):
        for run in (1, 2, 3):
            for number in range(12):
                name = f"{medium}_1d{run}_{number}_Ch1.ome.tif"
                (data / name).write_bytes(tiff(draw_cell(rng, radius=radius)))
    params = write_params(tmp_path, QUICK)
    ingest.main(params, data, tmp_path / "cells")
    split.main(params, tmp_path / "cells", tmp_path / "splits.parquet")
    (tmp_path / "best.json").write_text(json.dumps({"best": {"params": {}}}))
    paths = [tmp_path / name for name in ("cells", "splits.parquet", "best.json", "held_out")]
    leave_one_class_out.main(params, "multiclass", "NT3", *paths)
    report = json.loads((tmp_path / "held_out/NT3.json").read_text())
    assert report["classes"] == ["astrocyte", "oligodendrocyte"]
    assert report["called"]["oligodendrocyte"] > 0.8
    assert report["composition"]["oligodendrocyte"] > 0.5
    assert report["trained"]["balanced_accuracy"] > 0.8
    assert (tmp_path / "held_out/NT3.png").stat().st_size > 1000
    with pytest.raises(ParamsError, match="leaving out 'RA/SHH' needs two others"):
        leave_one_class_out.main(params, "multiclass", "RA/SHH", *paths)


def test_a_backbone_that_was_taught_on_the_class_is_refused(tmp_path):
    params = write_params(tmp_path, QUICK | {"train.weights": "pretrained"})
    (tmp_path / "best.json").write_text(json.dumps({"best": {"params": {}}}))
    paths = [tmp_path / name for name in ("cells", "splits.parquet", "best.json", "held_out")]
    with pytest.raises(ParamsError, match="taught on cells of NT3 too"):
        leave_one_class_out.main(params, "multiclass", "NT3", *paths)


def test_weights_of_a_bundle_that_has_seen_the_class_are_refused(tmp_path, make_params):
    manifest = pd.DataFrame({"label": ["NT3", "astrocyte"], "pixel_hash": [1, 2]})
    source = CellDataset(manifest, np.zeros((2, 1, 1), np.uint16), {})
    settings = make_params({"train.weights": str(tmp_path / "weights.safetensors")}).train
    save_file({"cells": np.array([1, 5])}, tmp_path / "seen.safetensors")
    with pytest.raises(ParamsError, match=r"weights.safetensors was trained on cells of NT3; set it to none"):
        leave_one_class_out._check_weights(settings, source, "NT3")
    leave_one_class_out._check_weights(settings, source, "astrocyte")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RA/SHH", "RA_SHH"),
        ("NT3", "NT3"),
        ("CD4+", "CD4_-a656f045"),
        ("CD4-", "CD4_-24026e27"),
        ("é" * 100, "é" * 75 + "-f42ec48e"),
    ],
)
def test_each_class_has_files_of_its_own(name, expected):
    made = leave_one_class_out.file_name(name, ["RA/SHH", "NT3", "CD4+", "CD4-", "é" * 100])
    assert made == expected
    assert len(f"{made}.json".encode()) < 255
