import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from pipelines.commands import dependencies

ROOT = dependencies.ROOT
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_dvc_yaml_has_the_import_closure_of_every_stage():
    text = (ROOT / "dvc.yaml").read_text()
    assert dependencies.with_closures(text) == text, "run: python -m pipelines.commands.dependencies"


def test_which_images_are_of_one_cell_decides_every_stage_that_reads_it():
    """Else `dvc repro` would keep splits with images of a cell on both sides when `dataset.track` is set."""
    stages = {name: stage.get("do", stage) for name, stage in STAGES.items()}
    reading = {name for name, stage in stages.items() if "fatescope/data/tracks.py" in stage["deps"]}
    # The search takes sides from the splits; neither it nor the card asks for a track.
    asking = reading - {"tune", "card"}
    assert asking == {"ingest", "split", "audit", "pretrain", "train", "evaluate", "register"}
    for name in asking:
        assert {"dataset.track", "dataset.time"} <= set(stages[name]["params"]), name


# A process forked from one that has the libraries imports a stage in a fraction of the time.
IMPORTS = """
import os, sys
import mlflow, optuna, pandas, sklearn.metrics, torch
for stage in sys.argv[1:]:
    assert not any(name.partition(".")[0] in ("fatescope", "pipelines") for name in sys.modules)
    if not (child := os.fork()):
        __import__(f"pipelines.stages.{stage}")
        ours = [m for n, m in sys.modules.items() if n.partition(".")[0] in ("fatescope", "pipelines")]
        print(stage, *(m.__file__ for m in ours if not m.__file__.endswith("__init__.py")), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, stage
"""


@pytest.mark.slow
def test_the_closure_holds_every_module_of_ours_that_a_stage_imports():
    """As Python itself sees it: what is in sys.modules once the stage is imported."""
    names = [stage for stage in STAGES if (ROOT / f"pipelines/stages/{stage}.py").exists()]
    done = subprocess.run([sys.executable, "-c", IMPORTS, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {
        line.split()[0]: {path.removeprefix(f"{ROOT}/") for path in line.split()[1:]}
        for line in done.stdout.splitlines()
    }
    assert list(imported) == list(STAGES)
    for stage, modules in imported.items():
        assert f"pipelines/stages/{stage}.py" in modules
        assert modules <= set(STAGES[stage].get("do", STAGES[stage])["deps"]), stage


def test_a_plot_does_not_retrain_and_pixels_do():
    train = dependencies.closure("pipelines.stages.train")
    assert "pipelines/evaluation/plots.py" not in train
    assert "fatescope/data/images.py" in train
    assert "pipelines/reporting/templates" in dependencies.closure("pipelines.stages.card")


def test_imports_inside_functions_and_packages_with_code_count(tmp_path):
    for name, text in {
        "pipelines/__init__.py": '"""Nothing but a docstring."""',
        "pipelines/stages/__init__.py": "",
        "pipelines/stages/a.py": "def main():\n    from fatescope.b import f\n",
        "fatescope/__init__.py": "import json\ndef load():\n    from fatescope import d\n",
        "fatescope/b.py": "from fatescope import c\ndef f(): ...\n",
        "fatescope/c.py": "",
        "fatescope/d.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert dependencies.closure("pipelines.stages.a", tmp_path) == [
        "fatescope/__init__.py",
        "fatescope/b.py",
        "fatescope/c.py",
        "pipelines/stages/a.py",
    ]
