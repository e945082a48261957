"""The audit is held to what was planted, and to what is known of real data sets."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

from fatescope import config as params_module
from fatescope.data import features, splits
from fatescope.data.dataset import CellDataset
from fatescope.data.dataset import load as load_cells
from fatescope.data.tracks import Tracks
from fatescope.errors import DataError
from pipelines.commands import simulate
from pipelines.evaluation import confounding, workers
from pipelines.evaluation.acquisition import predict_from_acquisition
from pipelines.evaluation.audit_sample import choose_cells, describe_cells
from pipelines.evaluation.pair_audit import audit_pair
from pipelines.stages import audit, ingest, split
from tests.support import native
from tests.support.images import draw_cell
from tests.support.params import write_params
from tests.support.presets import preset

SMALL = {
    "simulate.cells": 432,
    "simulate.marker_channels": 0,
    "simulate.darkfield": False,
    "ingest.workers": 1,
    "train.threads": 1,
}
FOUND_FROM = 0.5
"""The strength of a planted shortcut from which it is always found; the README says so."""


def prepare(folder, changes, data):
    """Ingest and split `data` in `folder`; return the path of the parameters."""
    folder.mkdir(exist_ok=True)
    path = write_params(folder, changes)
    ingest.main(path, data, folder / "cells")
    split.main(path, folder / "cells", folder / "splits.parquet")
    return path


def examine(folder, changes, data):
    """Run the stages up to the audit in `folder` and return its report."""
    path = prepare(folder, changes, data)
    audit.main(path, folder / "cells", folder / "splits.parquet", folder / "audit.json", folder / "plots")
    return json.loads((folder / "audit.json").read_text())


def verdicts(report):
    return {tuple(pair["classes"]): pair["verdict"] for pair in report["pairs"]}


def simulated_verdicts(folder, case):
    """Return the verdict on each pair of simulated classes; a case is the strength of the shortcut, and a seed.

    What decides no verdict is left out: baselines, the separability of groups, plots, random folds, and descriptions
    that may hold the cell.
    """
    strength, seed = case
    folder = folder / f"{strength}_{seed}"
    folder.mkdir()
    changes = {**SMALL, "simulate.seed": seed, "simulate.shortcut": strength}
    settings = params_module.load(write_params(folder, changes))
    simulate.simulate(settings.simulate, folder / "data", workers=1)
    prepare(folder, changes, folder / "data")
    source, confounded = load_cells(folder / "cells"), splits.load(folder / "splits.parquet").confounded
    rows = choose_cells(source.manifest, settings.dataset, settings.audit)
    sample = describe_cells(source, rows, confounded, settings.train.normalisation)
    predictions = predict_from_acquisition(
        sample, settings.audit, lambda description, scheme: scheme == "grouped" and description != confounding.INTENSITY
    )
    pairs = combinations(sample.classes.tolist(), 2)
    return {pair: audit_pair(sample, predictions, pair, settings.audit).verdict for pair in pairs}


@pytest.mark.slow
@pytest.mark.long
def test_a_planted_shortcut_is_found_and_seeds_without_one_raise_no_alarm(tmp_path):
    cases = [(0.0, seed) for seed in range(5)] + [(FOUND_FROM, 0), (FOUND_FROM, 1), (1.0, 0)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = dict(zip(cases, pool.map(partial(simulated_verdicts, tmp_path), cases), strict=True))
    for (strength, seed), pairs in found.items():
        if strength == 0:
            assert set(pairs.values()) == {"clean"}, seed
        else:
            # The lamp of NT3 is as far from that of astrocytes as it goes.
            assert pairs["NT3", "astrocyte"] == "shortcut", (strength, seed)


@pytest.mark.slow
def test_the_neural_stem_cell_sample_is_a_shortcut_between_o_and_the_others(unpack, tmp_path):
    report = examine(tmp_path / "pipeline", preset("nsc_sample"), unpack("nsc_sample"))
    assert verdicts(report) == {
        ("RA/SHH", "astrocyte"): "clean",
        ("RA/SHH", "oligodendrocyte"): "shortcut",
        ("astrocyte", "oligodendrocyte"): "shortcut",
    }
    assert all(pair["confounded"] for pair in report["pairs"])
    assert {path.stem for path in (tmp_path / "pipeline/plots").iterdir()} == {
        "acquisition",
        "baseline",
        "groups",
        "confounding",
    }


@pytest.mark.slow
def test_jurkat_is_clean_on_background_and_confounded_by_montage(unpack, tmp_path):
    report = examine(tmp_path / "pipeline", {**preset("jurkat_ifc"), "audit.max_cells": 2000}, unpack("jurkat_ifc"))
    assert set(verdicts(report).values()) == {"clean"}
    assert all(pair["confounded"] for pair in report["pairs"])
    assert report["resampled"]["G2"] == "cells"
    assert report["confounding"]["cramers_v"]["montage"] > 0.4
    assert report["baseline"]["random"]["value"] > 0.7
    assert "grouped" not in report["baseline"]


@pytest.mark.slow
def test_malaria_is_grouped_by_patient(unpack, tmp_path):
    dataset = {**preset("malaria"), "ingest.share": 0.2}
    report = examine(tmp_path / "pipeline", dataset, unpack("malaria"))
    [pair] = report["pairs"]
    assert (pair["split"], pair["confounded"], pair["verdict"]) == ("grouped", False, "clean")
    assert set(report["baseline"]) == {"random", "grouped"}
    assert report["baseline"]["grouped"]["value"] > 0.8
    # A patient can be told from uninfected cells: the batch signal that a random split rewards.
    assert report["groups"]["Uninfected"]["cell"]["low"] > 2 * report["groups"]["Uninfected"]["cell"]["chance"]


@pytest.mark.slow
def test_it_takes_no_more_cells_than_the_limit_and_several_processes_say_the_same(tmp_path, export, monkeypatch):
    changes = {
        "dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
        "audit.max_cells": 30,
    }
    alone = examine(tmp_path / "alone", changes, export)
    monkeypatch.setattr(workers, "MIN_CELLS", 1)
    assert examine(tmp_path / "workers", changes, export) == alone
    assert alone["cells"] == 30


def test_what_cannot_be_told_apart_is_an_error(tmp_path, export):
    with pytest.raises(DataError, match="two classes of at least 3 cells are needed"):
        examine(tmp_path / "pipeline", {"dataset.tasks": {"binary": ["astrocyte", "NT3"]}}, export)


@pytest.mark.slow
def test_normalisation_takes_the_lamp_away(make_params, rng):
    """Two classes of the same cells, one under a brighter lamp: a shortcut in raw pixels, none in normalised ones."""
    count = 120
    manifest = {
        "label": np.repeat(["astrocyte", "oligodendrocyte"], count),
        "group": np.tile([f"g{i}" for i in range(6)], 40),
    }
    manifest["group"] = np.char.add(manifest["label"], manifest["group"])
    pixels = np.stack([draw_cell(rng, 60, 80, level=700 if i < count else 1000) for i in range(2 * count)])
    names = ("medium", "day", "run")
    frame = pd.DataFrame({**manifest, **dict.fromkeys(names, "1"), "height": 60, "width": 80})
    settings = make_params({"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]}})
    for normalisation, left in (("contrast", "clean"), ("fixed", "shortcut")):
        report = audit.audit(CellDataset(frame, pixels), {}, settings.dataset, normalisation, settings.audit)
        [pair] = report.pairs
        assert pair.classes == ["astrocyte", "oligodendrocyte"]
        assert (pair.verdict, pair.verdict_normalised) == ("shortcut", left)


def test_a_group_that_is_called_like_a_number_is_no_cell(rng):
    """Cells of a confounded class are left out in turn, groups of the others: group 0 and the first cell are two."""
    frame = pd.DataFrame({"label": ["alone"] * 6 + ["many"] * 6, "group": ["x"] * 6 + ["0", "1", "2"] * 2})
    source = CellDataset(frame.assign(height=60, width=80), np.stack([draw_cell(rng, 60, 80) for _ in range(12)]))
    units = describe_cells(source, np.arange(12), {"alone": "one group"}, "contrast").units
    assert units.place[6] == units.place[9]
    assert len(np.unique(units.place[[0, 1, 6, 7, 8]])) == 5
    assert len(units.stratum) == 6 + 3


def test_cramers_v():
    assert confounding.cramers_v(np.array([[50, 0], [0, 50]])) == pytest.approx(1)
    assert confounding.cramers_v(np.array([[25, 25], [25, 25]])) == 0
    assert confounding.cramers_v(np.array([[50], [50]])) == 0


def test_descriptions_of_the_surroundings_do_not_see_the_cell():
    y, x = np.mgrid[:60, :80]
    cell = np.hypot(y - 30, x - 40) < 10
    for name in confounding.CELL_FREE:
        dark, bright = (confounding.describe(np.where(cell, level, 700.0))[name] for level in (300, 900))
        np.testing.assert_array_equal(dark, bright)
    assert len(features.CELL) == features.cell(np.full((1, 60, 80), 7, np.uint16)).shape[1]
    assert splits.SCHEMES == ("random", "grouped")


@pytest.mark.slow
def test_a_lamp_that_goes_with_the_class_is_found_in_what_files_of_the_instrument_say(tmp_path):
    (tmp_path / "data").mkdir()
    for seed, (medium, power, run) in enumerate(
        (m, p, run) for m, p in (("a", 0.3), ("o", 0.6)) for run in range(1, 6)
    ):
        xml = native.acquisition_xml((1, 5), (5,), power=power)
        objects = native.draw_objects(12, (1, 5), seed=seed)
        raw = native.pack(native.parts(objects, xml=xml, runs=(f"{medium}_1d{run}",)))
        (tmp_path / "data" / f"{medium}_1d{run}.cif").write_bytes(raw)
    changes = {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]}, "train.threads": 1, "audit.folds": 3}
    facts = examine(tmp_path, changes, tmp_path / "data")["facts"]
    assert facts["brightfield_power_w"]["accuracy"]["grouped"]["value"] == 1
    assert facts["camera_line"]["accuracy"]["grouped"]["low"] < 0.5
    assert facts["flow_speed"]["accuracy"] == {}


def test_one_image_of_each_cell_is_audited(make_params):
    table = pd.DataFrame({"label": np.repeat(["astrocyte", "oligodendrocyte"], 200)})
    keys = np.repeat(np.arange(100), 4)
    settings = make_params()
    rows = choose_cells(table, settings.dataset, settings.audit, Tracks(keys, np.zeros(400)))
    assert sorted(keys[rows].tolist()) == list(range(100))
    assert len(set(rows % 4)) > 1, "not the first image of every cell"
