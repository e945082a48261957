"""The central loop, five times with growing data: import, run the stages, compare with the champion."""

import mlflow
import numpy as np
import pytest

from fatescope import config
from fatescope.data import dataset, splits
from pipelines.commands import import_data
from pipelines.registry import versions
from tests.support.exports import write_export
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_register, run_stages

pytestmark = pytest.mark.long

ROUNDS = [(50, 60, 70), (20,), (90, 10), (40,), (30, 80)]
"""The runs that each round adds; names come before, between and after those that are known."""


def test_each_round_compares_on_all_test_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    params = write_params(tmp_path, CHANGES | {"train.epochs": 3, "tune.trials": 1})
    known, sizes = {}, []
    for number, runs in enumerate(ROUNDS, 1):
        export = write_export(tmp_path / f"export{number}", np.random.default_rng(number), runs)
        import_data.import_export(config.load(params).dataset, export, tmp_path / "data")
        run_stages(tmp_path, params)
        cells, parts = tmp_path / "artifacts/cells", splits.load(tmp_path / "artifacts/splits.parquet")
        groups = dataset.load(cells).manifest["group"]
        assert dataset.imported_groups(cells)[: len(known)] == list(known), "in the order of the rounds"
        sides = dict(zip(groups, parts.table["grouped"], strict=True))
        assert known.items() <= sides.items(), "no group has moved"
        known = {group: sides[group] for group in dataset.imported_groups(cells)}
        verdict = run_register(tmp_path)
        assert verdict["version"] == str(number)
        if number == 1:
            # So that there is a champion, whatever three epochs are worth.
            client = mlflow.MlflowClient()
            client.set_registered_model_alias("fatescope-binary", "champion", "1")
            continue
        assert verdict["against"] == str(versions.get_by_alias("binary", "champion").version) or verdict["champion"]
        compared = (parts.table["grouped"] == "test").sum()
        assert f"on the same {compared} cells" in verdict["criteria"]["better"]["detail"]
        sizes.append(compared)
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]
    mlflow.set_tracking_uri(None)
