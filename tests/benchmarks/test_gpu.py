"""The benchmark of GPUs: what it says without one, and that it runs where little is installed."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import gpu, gpu_cells, gpu_training
from fatescope.cli import machine
from tests.support.project import ROOT

BARE = """
import runpy, sys

REFUSED = {"mlflow", "optuna", "bentoml", "great_expectations", "dvc"}


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise AssertionError(f"{name} is imported")


sys.meta_path.insert(0, Refuse())
# What looks for these finds that they are not installed.
for name in sys.argv[1].split(","):
    sys.modules[name] = None
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv.pop(0))
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
ABSENT = "torchvision,tqdm,fastapi,onnx,onnxscript,openvino,matplotlib,tifffile,jinja2,sqlalchemy,psutil,litserve"
SERVICE = "pydantic_settings,starlette"


@pytest.fixture
def bench():
    """Run the benchmark in this process with some options."""
    app = typer.Typer()
    app.command()(gpu.main)
    return lambda *options: CliRunner().invoke(app, list(options))


def run_bare(folder, absent, *options):
    """Run the benchmark in a process in which `absent` and the frameworks of the pipeline cannot be imported."""
    command = [sys.executable, "-c", BARE, absent, str(ROOT), "benchmarks.gpu", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_without_a_gpu_nothing_is_measured(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = bench()
    assert result.exit_code == 3
    assert "finds no GPU" in result.output
    assert "nothing is measured" in result.output
    assert not list(tmp_path.iterdir())


def test_a_part_that_there_is_not_is_refused(bench):
    result = bench("--small", "--parts", "fit,speed")
    assert result.exit_code == 2
    assert "speed: there are fit, engine, score, table" in result.output


@pytest.mark.slow
@pytest.mark.long
def test_all_parts_run_tiny_without_the_frameworks_of_the_pipeline(tmp_path):
    done = run_bare(tmp_path, ABSENT, "--small")
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "reports/bench/gpu_small.json").read_text())
    figures = {figure["figure"]: figure for figure in written["figures"]}
    assert all(name.startswith("[not a measurement] ") for name in figures)
    assert all(figure["bar"] is None and figure["holds"] is None for figure in figures.values())
    measured = " ".join(figures)
    for part in ("constant batch", "DataLoader", "engine over the best", "score over the slower", "seconds an epoch"):
        assert part in measured
    assert all(np.isfinite(figure["value"]) and figure["value"] > 0 for figure in figures.values())
    assert "left out" not in done.stdout


@pytest.mark.slow
def test_without_what_the_service_is_made_of_training_is_still_measured(tmp_path):
    done = run_bare(tmp_path, f"{ABSENT},{SERVICE}", "--small", "--parts", "engine,score,table")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left out" in done.stdout
    assert "seconds an epoch" in done.stdout


def test_the_card_its_driver_and_its_libraries_are_named(monkeypatch):
    card = SimpleNamespace(name="NVIDIA T4", total_memory=15 * 2**30, major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(machine, "gpus", lambda: [machine.GPU("NVIDIA T4", "580.65.06", "15360 MiB")] * 2)
    described = gpu.describe_gpu()
    assert described["gpu"] == "NVIDIA T4"
    assert (described["driver"], described["compute_capability"]) == ("580.65.06", "7.5")
    assert (described["gpu_memory"], described["cudnn"]) == ("15.0 GiB", "91002")


def test_cells_are_the_same_for_a_seed_and_no_two_are_alike():
    pixels, targets = gpu_cells.draw(8, 24, 3)
    again, _ = gpu_cells.draw(8, 24, 3)
    np.testing.assert_array_equal(pixels, again)
    assert pixels.shape == (24, 60, 80)
    assert len(np.unique(pixels.reshape(24, -1), axis=0)) == 24
    assert np.bincount(targets).tolist() == [6] * 4
    np.testing.assert_array_equal(targets[8:16], targets[:8])
    examples = gpu_cells.split(pixels, targets, 20)
    assert (len(examples.train), len(examples.validation)) == (18, 2)


def test_settings_are_seeded_and_take_the_backbones_in_turn(make_params):
    train = make_params().train
    drawn, again = (gpu_training.draw_settings(train, 9, 1, [128, 1024]) for _ in range(2))
    assert drawn == again
    assert {settings.backbone for settings in drawn} == set(gpu_training.backbones())
    assert {settings.batch_size for settings in drawn} == {128, 1024}
    assert all(min(settings.input_size) >= 75 for settings in drawn if settings.backbone == "inception_v3")
