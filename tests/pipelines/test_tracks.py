"""A model of cells with several images over time, from an export to the card."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from fatescope import config
from fatescope.data import dataset, tracks
from fatescope.inference import bundle
from tests.support.images import draw_cell, tiff
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_stages
from tests.support.presets import preset

QUICK = {"train.epochs": 4, "train.seeds": [0], "tune.trials": 0, "train.batch_size": 32}
CELLS, HOURS = 12, (0, 6, 12, 18)
"""Cells of each of the six groups, and the times of their images."""


def write_followed(folder, rng):
    """Write cells of two classes whose sizes overlap; a cell keeps its size, which its images show with noise."""
    folder.mkdir()
    for medium, radius in (("a", 9.0), ("o", 11.0)):
        for run in (1, 2, 3):
            for cell in range(CELLS):
                own = radius + rng.normal(0, 0.8)
                for hour in HOURS:
                    image = draw_cell(rng, 45, 60, own + rng.normal(0, 0.8))
                    (folder / f"{medium}_1d{run}_{cell}_t{hour}_Ch1.ome.tif").write_bytes(tiff(image))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Run the stages up to the card; return the folder."""
    folder = tmp_path_factory.mktemp("followed")
    params = write_params(folder, preset("followed") | CHANGES | QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_followed(folder / "data", np.random.default_rng(0))
        mlflow.set_tracking_uri(None)
        run_stages(folder, params)
    mlflow.set_tracking_uri(None)
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_images_of_one_cell_are_split_together_and_answered_together(project):
    cells = dataset.load(project / "artifacts/cells")
    of_cells = tracks.read(cells, config.load(project / "params.yaml").dataset)
    assert len(np.unique(of_cells.keys)) == 6 * CELLS
    sides = pd.read_parquet(project / "artifacts/splits.parquet")
    for scheme in ("random", "grouped"):
        assert sides.groupby(of_cells.keys)[scheme].nunique().max() == 1
    spec = bundle.read_spec(project / "artifacts/binary/bundle")
    # Training and validation together: the groups of each class but one, which is for the test.
    assert (spec.tracks.frames, spec.tracks.tracks) == (len(HOURS), 4 * CELLS)
    metrics = json.loads((project / "reports/binary/metrics.json").read_text())["splits"]["grouped"]["tracks"]
    assert metrics["tracks"] == 2 * CELLS
    assert [row["frames"] for row in metrics["frames"]] == [1, 2, 3, 4]
    assert metrics["frames"][-1]["settled"] == 1
    assert (project / "reports/binary/plots/tracks_grouped.png").exists()
    card = (project / "reports/binary/card.md").read_text()
    assert "## Cells followed over time" in card
    assert f"| 4 | {2 * CELLS} |" in card
    assert "card/tracks_grouped.png" in card
