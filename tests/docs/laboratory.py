"""A small laboratory: a copy of the project with drawn cells, their splits, and two registered versions a task."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from fatescope.inference import bundle
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings
from tests.support.bundles import copy_bundle
from tests.support.project import ROOT, copied

SMALL = {
    "simulate": {"cells": 288, "marker_channels": 1, "darkfield": False},
    "audit": {"folds": 3},
    "tune": {"trials": 2, "minutes": 1, "epochs": 1, "min_epochs": 1, "space": {"learning_rate": [1e-3, 2e-3]}},
    "train": {"backbone": "compact", "seeds": [0], "epochs": 2, "threads": 1},
    "calibrate": {"folds": 2},
    "ensemble": {"members": 1},
    "evaluate": {"mixtures": 20, "mixture_cells": 50},
}
"""Section → what makes the pipeline end in a minute or two; nothing of it changes how a command is spelt."""


def make(folder):
    """Make the laboratory in `folder`."""
    copied(folder)
    _shrink(folder / "params.yaml")
    _link_environment(folder)
    for command in (["make", "data"], ["dvc", "repro", "--quiet", "split"]):
        run(command, folder)
    _register(folder)
    # Where `fatescope demo --folder demo` leaves the cells that it draws.
    (folder / "demo").mkdir()
    (folder / "demo/data").symlink_to("../data")
    return folder


def environment(folder):
    """Return the environment of a shell in the laboratory, in which `fatescope`, `dvc` and `make` are those of here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "FATESCOPE"))}
    return kept | {
        "PATH": f"{folder / '.venv/bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }


def key(folder):
    """Return where the key is that has signed the versions of the laboratory."""
    return folder / ".config/fatescope/signing-key.pem"


def run(command, folder):
    """Run a command in the laboratory."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def _shrink(path):
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    content = yaml.load(path)
    for section, fields in SMALL.items():
        content[section].update(fields)
    yaml.dump(content, path)


def _link_environment(folder):
    """Make a virtual environment of links to that of the tests, in which make finds everything installed."""
    target = folder / ".venv"
    target.mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.endswith("installed"):
            (target / path.name).symlink_to(path)
    for name in re.findall(r"^EXTRAS_(\w+)", (folder / "Makefile").read_text(), re.MULTILINE):
        (target / f"{name}.installed").touch()


def _register(folder):
    """Register two versions of the committed bundle of each task, of which the first is champion."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        for task in ("binary", "multiclass"):
            for seed in (0, 1):
                _register_version(folder / f".bundles/{seed}/{task}/bundle", task, seed)
    finally:
        mlflow.set_tracking_uri(None)
        os.chdir(before)


def _register_version(path, task, seed):
    copy_bundle(path, task, seed)
    for name in ("card.md", "card.html"):
        (path / name).write_text("a card")
    save_file({"cells": np.zeros(0, np.int64)}, path / bundle.SEEN)
    # Of the bit depth of the cells that `simulate` draws.
    bundle.finalize(path, bundle.read_spec(path).model_copy(update={"bit_depths": [12]}))
    signature.sign(path, SigningSettings(signing_key=key(path.parents[3])))
    client, name = mlflow.MlflowClient(), f"fatescope-{task}"
    mlflow.set_experiment(name)
    with mlflow.start_run():
        # As `pipelines.stages.register` leaves it.
        made = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ROOT / "pipelines/registry/pyfunc.py"),
            artifacts={"bundle": str(path)},
            code_paths=[str(ROOT / "fatescope")],
            pip_requirements=[],
            registered_model_name=name,
        )
    version = made.registered_model_version
    client.set_registered_model_alias(name, "challenger", version)
    if seed == 0:
        client.set_registered_model_alias(name, "champion", version)
