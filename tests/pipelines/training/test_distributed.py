import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fatescope.errors import FatescopeError
from fatescope.inference import bundle
from pipelines.settings import PipelineSettings
from pipelines.training import distributed
from tests.support.images import draw_cell
from tests.support.params import write_params
from tests.support.pipeline import CHANGES
from tests.support.project import ROOT


def test_one_process_is_a_group_of_its_own():
    with distributed.process_group(PipelineSettings(world_size=1)):
        assert (distributed.world_size(), distributed.rank(), distributed.is_primary()) == (1, 0, True)
        assert distributed.broadcast_object({"a": 1}) == {"a": 1}


def test_one_process_waits_for_nobody_and_decides_by_itself():
    distributed.wait_for_primary()
    assert (distributed.smallest(7), distributed.broadcast_number(8)) == (7, 8)


@pytest.mark.parametrize(("count", "others", "expected"), [(1, [True], True), (0, [False], False), (2, [True], True)])
def test_gradients_go_over_gpus_where_every_process_has_one(monkeypatch, count, others, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_gather", lambda own: [own, *others])
    assert distributed._have_gpu(0) is expected


def test_a_process_without_a_gpu_of_its_own_ends_all(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_gather", lambda own: [True, own])
    with pytest.raises(FatescopeError, match=r"process \[1\] of 2 has no GPU; start as many .* as it has GPUs"):
        distributed._have_gpu(1)


def torchrun(folder, *arguments):
    """Run Python with `arguments` in two processes that train together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


PROGRAM = """
import json, sys, time
from datetime import timedelta
from functools import partial
from pathlib import Path
import numpy as np
import torch
from torch import nn
from fatescope import config
from pipelines.settings import PipelineSettings
from pipelines.training import distributed, trainer
from pipelines.training.examples import Examples
from pipelines.training.group_loss import GroupLoss
from pipelines.training.pace import Pace
from tests.support.clocks import TickingClock
# An exchange of gradients that waited for the primary process would fail.
distributed.COLLECTIVE = timedelta(seconds=2)
folder, told = Path(sys.argv[1]), {}
params = config.load(folder / "params.yaml").train
cells = np.load(folder / "cells.npz")
rows = np.arange(len(cells["targets"]))
examples = Examples(cells["pixels"], cells["targets"], rows[:64], rows[64:])


def late():
    if distributed.is_primary():
        time.sleep(4)


with distributed.process_group(PipelineSettings()):
    rank = distributed.rank()
    told["number"], told["object"] = distributed.broadcast_number(10 + rank), distributed.broadcast_object([rank])
    told["smallest"] = distributed.smallest(7 - rank)
    late()
    if distributed.is_primary():
        (folder / "written").touch()
    distributed.wait_for_primary()
    told["written"] = (folder / "written").exists()
    late()
    module = distributed.wrap_ddp(nn.Linear(1, 1))
    module(torch.full((1, 1), 1.0 + rank)).sum().backward()
    told["gradient"] = float(module.module.weight.grad)
    # Each process has cells of one group, which the other does not see.
    groups = GroupLoss(np.array([0, 1]), np.ones(2), np.full(2, 0.5), 1.0, torch.device("cpu"))
    groups(torch.tensor([1.0 + rank]), torch.tensor([rank]))
    told["group_weights"] = groups.weights.tolist()
    late()
    distributed.broadcast_state(module)

    # Each process by itself would stop at another epoch.
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.8] if rank == 0 else [])
    run_epoch = trainer.TrainingLoop.run_epoch
    trainer.TrainingLoop.run_epoch = lambda loop: run_epoch(loop) | ({"train_loss": float("nan")} if rank else {})
    trainer.TrainingLoop.validate = lambda loop: {"validation_loss": next(losses)}
    fit = trainer.fit(examples, 2, params, 0, lambda epoch, _: late() if epoch == 1 else None)
    told["epochs"] = fit.epochs
    # And take another number of steps, because its clock goes faster.
    losses = iter(np.linspace(1, 0.1, 20))
    trainer.Pace = partial(Pace, clock=TickingClock(1.0 + 9 * rank))
    fit = trainer.fit(examples, 2, params, 0, lambda *_: None, seconds=40)
    told["paced"] = [fit.epochs, fit.shortened]
    told["weights"] = float(sum(tensor.double().sum() for tensor in fit.network.state_dict().values()))
(folder / f"{rank}.json").write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_others_wait_for_the_primary_process_and_do_what_it_decides(tmp_path, rng):
    targets = np.arange(96, dtype=np.int64) % 2
    pixels = np.stack([draw_cell(rng, 60, 80, radius=(8, 14)[t]) for t in targets])
    np.savez(tmp_path / "cells.npz", pixels=pixels, targets=targets)
    quick = {"backbone": "compact", "epochs": 20, "batch_size": 8, "patience": 3, "threads": 1}
    write_params(tmp_path, {f"train.{name}": value for name, value in quick.items()})
    (tmp_path / "program.py").write_text(PROGRAM)
    torchrun(tmp_path, tmp_path / "program.py", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert (first["number"], first["object"], first["smallest"]) == (10, [0], 6)
    assert (first["written"], first["gradient"]) == (True, 1.5)
    assert first["group_weights"] == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)])
    assert first["epochs"] == 2, "the second of five had the lowest loss"
    assert first["paced"] == [5, True], "of 20 epochs, by the clock of the first process"


@pytest.mark.slow
def test_train_under_torchrun(folder, tmp_path):
    """Two processes make the models of a task together, and one of them writes them."""
    artifacts = folder / "artifacts"
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
    torchrun(tmp_path, *arguments)
    written = json.loads((tmp_path / "models/models.json").read_text())
    alone = json.loads((artifacts / "binary/models.json").read_text())
    assert [each["folder"] for each in written["models"]] == [each["folder"] for each in alone["models"]]
    for each in written["models"]:
        bundle.load(tmp_path / "models" / each["folder"], threads=1).check()
