import json
import os
import subprocess
import sys

import pytest

from fatescope.inference import bundle
from pipelines.settings import PipelineSettings
from pipelines.training import distributed
from tests.support.params import write_params
from tests.support.pipeline import CHANGES
from tests.support.project import ROOT


def test_one_process_is_a_group_of_its_own():
    with distributed.process_group(PipelineSettings(world_size=1)):
        assert (distributed.world_size(), distributed.rank(), distributed.is_primary()) == (1, 0, True)
        assert distributed.broadcast_object({"a": 1}) == {"a": 1}


@pytest.mark.slow
def test_train_under_torchrun(folder, tmp_path):
    """Two processes make the models of a task together, and one of them writes them."""
    artifacts = folder / "artifacts"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    params = write_params(tmp_path, CHANGES | {"train.epochs": 3})
    options = {
        "--params": params,
        "--task": "binary",
        "--cells": artifacts / "cells",
        "--splits": artifacts / "splits.parquet",
        "--best": artifacts / "binary/best.json",
        "--out": tmp_path / "models",
    }
    arguments = ["-m", "pipelines.stages.train", *(str(part) for pair in options.items() for part in pair)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = subprocess.run(
        [*command, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "models/models.json").read_text())
    alone = json.loads((artifacts / "binary/models.json").read_text())
    assert [each["folder"] for each in written["models"]] == [each["folder"] for each in alone["models"]]
    for each in written["models"]:
        bundle.load(tmp_path / "models" / each["folder"], threads=1).check()
