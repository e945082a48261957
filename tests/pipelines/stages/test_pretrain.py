"""The stage pretrain, and the stages that start from its weights."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from fatescope import config
from fatescope.config.presets import get_preset
from fatescope.data import dataset, splits
from fatescope.data.tracks import Tracks, key_of
from fatescope.errors import ParamsError
from fatescope.networks import backbones
from pipelines.pretraining import cells as sources
from pipelines.pretraining.result import BACKBONE, REPORT, PretrainingReport, hash_of, with_pretrained
from pipelines.stages import ingest, pretrain, split, tune
from pipelines.tuning.summary import without_search
from tests.support.exports import write_export
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params

CHANGES = {
    "ingest.workers": 1,
    "dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
    "pretrain.method": "vicreg",
    "pretrain.epochs": 3,
    "pretrain.minutes": 60,
    "pretrain.batch_size": 8,
    "train.weights": "pretrained",
    "train.threads": 1,
    "tune.space": {"learning_rate": {"low": 5e-3, "high": 1e-2, "log": True}},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with `cells` and `splits.parquet`, of cells in 6 runs."""
    folder = tmp_path_factory.mktemp("stored")
    params = write_params(folder, CHANGES)
    write_export(folder / "data", np.random.default_rng(0))
    ingest.main(params, folder / "data", folder / "cells")
    split.main(params, folder / "cells", folder / "splits.parquet")
    return folder


def run(stored, tmp_path, **changes):
    params = write_params(tmp_path, CHANGES | {name.replace("__", "."): value for name, value in changes.items()})
    pretrain.main(params, stored / "cells", stored / "splits.parquet", tmp_path / "feedback", tmp_path / "out")
    return config.load(params), PretrainingReport.read(tmp_path / "out" / REPORT)


def keep(folder, pixels, name="a_9d9_9_Ch1.ome.tif", own="123456789abc", **line):
    """Store an image as the service does with a correction."""
    (folder / own).mkdir(parents=True)
    (folder / own / name).write_bytes(pixels if isinstance(pixels, bytes) else tiff(pixels))
    with (folder / "corrections.jsonl").open("a") as file:
        file.write(json.dumps({"path": f"{own}/{name}", "label": "astrocyte", **line}) + "\n")


def test_it_learns_from_all_cells_that_no_scheme_tests(stored, tmp_path):
    params, report = run(stored, tmp_path)
    table = splits.load(stored / "splits.parquet").table
    tested = (table["random"] == "test") | (table["grouped"] == "test")
    assert (report.cells, report.tested) == ((~tested).sum(), tested.sum())
    assert report.tested > 0
    assert report.epochs == len(report.losses) == 3
    assert report.losses[-1] < report.losses[0]
    # The weights, with their statistics, are those that training starts from.
    pretrained = with_pretrained(params, tmp_path / "out")
    features = backbones.build("compact", pretrained.train.weights, params.train.input_size).features
    assert features[1].running_mean.abs().max() > 0
    assert set(hash_of(pretrained)) == {"pretrained_hash"}


def test_no_pixel_of_a_test_cell_changes_the_weights(stored, tmp_path, monkeypatch):
    cells = dataset.load(stored / "cells")
    tested = np.setdiff1d(np.arange(len(cells)), sources.untested(splits.load(stored / "splits.parquet"), cells))
    spoilt = np.array(cells.pixels)
    spoilt[tested] = 0
    (tmp_path / "other").mkdir()
    run(stored, tmp_path)
    other = dataset.CellDataset(cells.manifest, spoilt, cells.channels)
    monkeypatch.setattr(dataset, "load", lambda *_: other)
    run(stored, tmp_path / "other")
    assert (tmp_path / "out" / BACKBONE).read_bytes() == (tmp_path / "other/out" / BACKBONE).read_bytes()


def test_nothing_of_a_tested_group_or_cell_is_learned_from_though_it_has_no_split_itself():
    """As where the quality gates left an image out, or where no task names its class."""
    table = pd.DataFrame({
        "label": list("aaaaab"),
        "grouped": ["test", None, "train", "train", None, None],
        "random": ["train", None, "test", "train", None, None],
    })  # fmt: skip
    manifest = pd.DataFrame({"group": ["run1", "run1", "run2", "run2", "run2", "run3"]})
    cells = dataset.CellDataset(manifest, np.zeros((6, 1, 1), np.uint16), {"1": "brightfield"})
    followed = Tracks(np.array([1, 1, 2, 3, 2, 4]), np.zeros(6))
    assert sources.untested(splits.Splits(table, {}), cells).tolist() == [3, 4, 5]
    assert sources.untested(splits.Splits(table, {}), cells, followed).tolist() == [3, 5]


@pytest.mark.parametrize("freeze", [False, True])
def test_training_may_keep_what_pretraining_learned(stored, tmp_path, freeze):
    run(stored, tmp_path, train__freeze=freeze, pretrain__epochs=1)
    assert (tmp_path / "out" / BACKBONE).exists()


def test_feedback_images_count_but_for_those_of_test_cells(stored, tmp_path, rng):
    cells, divided = dataset.load(stored / "cells"), splits.load(stored / "splits.parquet")
    rows = sources.untested(divided, cells)
    for row, own in ((rows[0], "known"), (np.setdiff1d(np.arange(len(cells)), rows)[0], "tested")):
        keep(tmp_path / "feedback", (stored / "data" / cells.manifest["path"][row]).read_bytes(), own=own)
    keep(tmp_path / "feedback", draw_cell(rng, 40, 50, 9), own="new")
    keep(tmp_path / "feedback", draw_cell(rng, 400, 500, 9), own="large")
    _, report = run(stored, tmp_path)
    assert (report.feedback, report.feedback_known, report.feedback_tested) == (1, 1, 1)
    assert list(report.feedback_refused) == ["large"]
    assert "do not fit the canvas" in report.feedback_refused["large"]


def test_no_feedback_image_of_a_tested_group_is_learned_from(stored, tmp_path, rng):
    """As where the store has a share of the cells, or where a cell was exported again."""
    cells, divided = dataset.load(stored / "cells"), splits.load(stored / "splits.parquet")
    [tested, *_] = sorted(group for group in sources.tested_groups(divided, cells) if group.startswith("a"))
    medium, day, run_number = tested.split("_")
    images = [draw_cell(rng, 40, 50, 9) for _ in range(4)]
    keep(tmp_path / "feedback", images[0], f"{medium}_{day}d{run_number}_999_Ch1.ome.tif", own="by-name")
    # Of another class than people saw first: the path has the true one, and the group is that of the acquisition.
    keep(tmp_path / "feedback", images[1], f"o_{day}d{run_number}_999_Ch1.ome.tif", own="corrected", group=tested)
    keep(tmp_path / "feedback", images[2], "a_9d9_1_Ch1.ome.tif", own="new")
    keep(tmp_path / "feedback", images[3], "picture.tif", own="unnamed", group=None)
    _, report = run(stored, tmp_path, pretrain__epochs=1)
    assert (report.feedback, report.feedback_tested, report.feedback_refused) == (2, 2, {})


def test_no_feedback_image_of_a_tested_cell_at_another_time_is_learned_from(tmp_path, rng, make_params):
    dataset_ = {f"dataset.{name}": value for name, value in get_preset("followed").values()["dataset"].items()}
    manifest = pd.DataFrame({"group": ["a_1_1"] * 4})
    table = pd.DataFrame({"pixel_hash": [1, 2, 3, 4]})
    cells = dataset.CellDataset(manifest.join(table), np.zeros((4, 60, 80), np.uint16), {"1": "brightfield"})
    followed = Tracks(np.array([key_of("a_1_1", cell) for cell in "1122"]), np.zeros(4))
    for cell in (1, 2, 3):
        keep(tmp_path, draw_cell(rng, 40, 50, 9), f"a_1d1_{cell}_t99_Ch1.ome.tif", own=f"cell-{cell}", group="a_1_1")
    found = sources.read_feedback(tmp_path, cells, np.array([2, 3]), make_params(dataset_), set(), followed)
    assert (len(found.pixels), found.tested, found.refused) == (2, 1, {})


def test_without_a_method_there_are_no_weights_and_nothing_is_read(tmp_path):
    params, report = run(tmp_path / "nothing", tmp_path, pretrain__method="none")
    assert report == PretrainingReport(method="none")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    with pytest.raises(ParamsError, match=r"pretrain.method is none.*set it to"):
        with_pretrained(params, tmp_path / "out")


def test_the_stage_imports_pytorch_only_where_it_needs_it():
    check = "import sys, pipelines.stages.pretrain as stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_weights_of_another_backbone_are_refused_before_training(stored, tmp_path):
    params, _ = run(stored, tmp_path)
    for changes in ({"train.backbone": "resnet18"}, {"tune.space": {"backbone": ["compact", "resnet18"]}}):
        params = config.load(write_params(tmp_path, CHANGES | changes))
        with pytest.raises(ParamsError, match=r"those of compact, but .*resnet18"):
            with_pretrained(params, tmp_path / "out")
    with pytest.raises(ParamsError, match="needs what the stage pretrain writes"):
        with_pretrained(params, tmp_path / "nowhere")


def test_weights_of_the_small_stem_are_refused_where_the_search_tries_the_standard_one(tmp_path):
    report = PretrainingReport(method="simclr", backbone="resnet18", stem="small")
    report.write(tmp_path / "out" / REPORT)
    own = CHANGES | {"train.backbone": "resnet18", "train.stem": "small"}
    for changes in ({"train.stem": "standard"}, {"tune.space": {"stem": ["standard", "small"]}}):
        params = config.load(write_params(tmp_path, own | changes))
        with pytest.raises(ParamsError, match=r"set train.stem to standard, whose weights suit both"):
            with_pretrained(params, tmp_path / "out")
    params = config.load(write_params(tmp_path, own))
    assert with_pretrained(params, tmp_path / "out").train.weights == str(tmp_path / "out" / BACKBONE)


def test_too_few_cells_for_a_batch_are_refused(stored, tmp_path):
    with pytest.raises(ParamsError, match=r"pretrain.batch_size: 64, but only \d+ cells"):
        run(stored, tmp_path, pretrain__batch_size=64)


@pytest.mark.parametrize(("backbone", "method"), [("compact", "simclr"), ("resnet18", "vicreg")])
def test_every_backbone_learns_with_the_clock_against_it(stored, tmp_path, backbone, method):
    torch.manual_seed(0)
    _, report = run(
        stored,
        tmp_path,
        pretrain__method=method,
        train__backbone=backbone,
        pretrain__minutes=1e-6,
        train__input_size=[32, 32],
    )
    assert report.shortened
    assert report.epochs == 1


def test_the_search_starts_from_the_weights_and_is_the_same_one_in_another_folder(stored, tmp_path, monkeypatch):
    run(stored, tmp_path)
    searches = []
    monkeypatch.setattr(tune, "search", lambda searched, *_: searches.append(searched) or without_search())
    for name in ("here", "there"):
        shutil.copytree(tmp_path / "out", tmp_path / name)
        journal, best, plots = (tmp_path / name / file for file in ("study.journal", "best.json", "plots"))
        places = stored / "cells", stored / "splits.parquet", journal, best, plots, tmp_path / name
        tune.main(tmp_path / "params.yaml", "binary", *places)
    assert searches[0].study == searches[1].study
    assert searches[0].params.train.weights == str(tmp_path / "here" / BACKBONE)
