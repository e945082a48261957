"""The stage quality, and what the stages after it make of the cells outside."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fatescope import config
from fatescope.data import dataset, splits, table_parts
from fatescope.data.dataset import CellDataset
from fatescope.data.quality_gate import REASONS
from fatescope.data.quality_table import CellQuality
from fatescope.errors import SplitError
from pipelines.commands import simulate
from pipelines.evaluation.quality_report import QualityReport
from pipelines.stages import audit, ingest, quality, split
from tests.support.params import write_params

pytestmark = pytest.mark.slow
CHANGES = {
    "simulate.cells": 480,
    "simulate.days": [5],
    "simulate.runs": 4,
    "simulate.marker_channels": 0,
    "simulate.darkfield": False,
    "simulate.junk": 0.25,
    "ingest.workers": 1,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with cells of which a quarter is junk, and what the stage quality wrote of them."""
    folder = tmp_path_factory.mktemp("quality")
    params = write_params(folder, CHANGES)
    simulate.simulate(config.load(params).simulate, folder / "data", workers=2)
    ingest.main(params, folder / "data", folder / "cells")
    written = folder / "quality.parquet", folder / "quality.json", folder / "plots"
    quality.main(params, folder / "cells", *written)
    return folder


def split_with(folder, tmp_path, *, exclude):
    params = write_params(tmp_path, CHANGES | {"quality.exclude": exclude})
    split.main(params, folder / "cells", tmp_path / "splits.parquet", folder / "quality.parquet")
    return splits.load(tmp_path / "splits.parquet")


def test_planted_junk_is_outside_and_good_cells_are_inside(drawn):
    table = CellQuality.load(drawn / "quality.parquet").table
    contents = pd.read_csv(simulate.junk_file(drawn / "data")).set_index("cell").loc[table["cell_id"]]
    planted, good = contents["planted"].to_numpy(), (contents["kind"] == "cell").to_numpy()
    outside = table["outside"].to_numpy()
    assert outside[planted].mean() > 0.95
    assert outside[good].mean() < 0.05
    for kind in REASONS:
        assert table[kind].to_numpy()[planted & (contents["kind"] == kind).to_numpy()].mean() > 0.8, kind


def test_the_report_counts_what_the_table_has(drawn):
    table = CellQuality.load(drawn / "quality.parquet").table
    manifest = dataset.load(drawn / "cells").manifest
    assert table["cell_id"].tolist() == manifest["cell_id"].tolist()
    report = QualityReport.read(drawn / "quality.json")
    assert not report.excluded
    assert (report.total.cells, report.total.outside) == (480, table["outside"].sum())
    assert report.total.reasons == {name: table[name].sum() for name in REASONS}
    for counts, column in ((report.classes, "label"), (report.groups, "group")):
        expected = table.groupby(manifest[column].to_numpy())["outside"].sum()
        assert {name: one.outside for name, one in counts.items()} == expected.to_dict()
        assert sum(one.cells for one in counts.values()) == 480
    assert report.classes["astrocyte"].share == report.classes["astrocyte"].outside / 120


def test_both_plots_are_drawn(drawn):
    for name in ("area_aspect_ratio", "gradient_rms"):
        with Image.open(drawn / "plots" / f"{name}.png") as picture:
            colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        # Cells, and what is outside, in their own colours.
        assert len(np.unique(colours, axis=0)) > 100


def test_by_default_a_cell_outside_has_the_split_that_it_would_have(drawn, tmp_path):
    params = write_params(tmp_path, CHANGES)
    split.main(params, drawn / "cells", tmp_path / "without.parquet")
    pd.testing.assert_frame_equal(
        split_with(drawn, tmp_path, exclude=False).table, splits.load(tmp_path / "without.parquet").table
    )


def test_cells_outside_have_no_split_where_they_are_excluded(drawn, tmp_path):
    outside = CellQuality.load(drawn / "quality.parquet").outside
    kept, all_cells = split_with(drawn, tmp_path, exclude=True), split_with(drawn, tmp_path, exclude=False)
    for scheme in splits.SCHEMES:
        assert (kept.table[scheme].isna() == outside).all()
    # A group keeps its side.
    same = kept.table["grouped"][~outside] == all_cells.table["grouped"][~outside]
    assert same.all()
    rows = np.concatenate([kept.indices("grouped", name, ["astrocyte"]) for name in splits.SPLITS])
    assert not outside[rows].any()


def test_the_audit_looks_at_no_excluded_cell(drawn, tmp_path):
    kept = split_with(drawn, tmp_path, exclude=True)
    params = write_params(tmp_path, CHANGES | {"quality.exclude": True, "train.threads": 1, "audit.folds": 2})
    audit.main(params, drawn / "cells", tmp_path / "splits.parquet", tmp_path / "audit.json", tmp_path / "audit")
    report = json.loads((tmp_path / "audit.json").read_text())
    inside = int(kept.table["random"].notna().sum())
    assert report["cells"] == inside < 480
    assert sum(sum(by_group.values()) for by_group in report["confounding"]["cells"].values()) == inside


def test_excluding_needs_the_table_of_these_cells(drawn, tmp_path):
    params = write_params(tmp_path, CHANGES | {"quality.exclude": True})
    with pytest.raises(SplitError, match="say with --quality which these are"):
        split.main(params, drawn / "cells", tmp_path / "splits.parquet")
    fewer = CellQuality.load(drawn / "quality.parquet")
    CellQuality(fewer.table.iloc[:10], fewer.gate).save(tmp_path / "other.parquet")
    with pytest.raises(SplitError, match=r"about 10 cells, but there are 480; run the quality stage"):
        split.main(params, drawn / "cells", tmp_path / "splits.parquet", tmp_path / "other.parquet")
    every = CellQuality(fewer.table.assign(outside=True), fewer.gate)
    every.save(tmp_path / "every.parquet")
    with pytest.raises(SplitError, match=r"all cells of \['NT3', .* are outside the gates; look at the plots"):
        split.main(params, drawn / "cells", tmp_path / "splits.parquet", tmp_path / "every.parquet")


def test_a_limit_that_a_person_draws_holds_and_the_others_stay_learned(drawn, tmp_path):
    cells = dataset.load(drawn / "cells")
    own = config.load(write_params(tmp_path, {"quality.limits": {"min_gradient_rms": 0.9}})).quality
    quality.quality(cells, own, tmp_path / "own.parquet")
    learned, changed = (CellQuality.load(path) for path in (drawn / "quality.parquet", tmp_path / "own.parquet"))
    assert changed.gate == learned.gate.model_copy(update={"min_gradient_rms": 0.9})
    blurred = (learned.table["gradient_rms"] < 0.9) & (learned.table["area"] > 0)
    assert changed.table["focus"].equals(blurred)
    assert changed.table["focus"].sum() > learned.table["focus"].sum()


def test_of_several_channels_the_first_is_measured(drawn, tmp_path):
    cells = dataset.load(drawn / "cells")
    params = config.load(drawn / "params.yaml").quality
    one = CellDataset(cells.manifest.iloc[:60], cells.pixels[:60])
    both = CellDataset(one.manifest, np.stack([one.pixels, one.pixels[::-1]], axis=1))
    for name, cells in (("one", one), ("both", both)):
        quality.quality(cells, params, tmp_path / name)
    assert CellQuality.load(tmp_path / "one").table.equals(CellQuality.load(tmp_path / "both").table)
    assert len(CellQuality.load(tmp_path / "one").table) == 60


def test_the_size_of_parts_changes_nothing(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(table_parts, "PART", 100)
    monkeypatch.setattr(quality, "CHUNK", 30)
    written = tmp_path / "quality.parquet", tmp_path / "quality.json", tmp_path / "plots"
    quality.main(drawn / "params.yaml", drawn / "cells", *written)
    assert CellQuality.load(written[0]).table.equals(CellQuality.load(drawn / "quality.parquet").table)
    assert written[1].read_text() == (drawn / "quality.json").read_text()
    for name in ("area_aspect_ratio", "gradient_rms"):
        assert (tmp_path / f"plots/{name}.png").read_bytes() == (drawn / f"plots/{name}.png").read_bytes()


def test_gates_learned_from_a_sample_are_about_those_of_all_cells(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "SAMPLE", 240)
    quality.quality(dataset.load(drawn / "cells", []), config.load(drawn / "params.yaml").quality, tmp_path / "half")
    half, whole = (CellQuality.load(path) for path in (tmp_path / "half", drawn / "quality.parquet"))
    assert half.gate != whole.gate
    assert (half.outside == whole.outside).mean() > 0.95
