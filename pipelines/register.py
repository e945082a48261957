"""Put a bundle into the MLflow registry and, where it passes the gate, call it `champion`.

The same bundle is registered once. `gate.json`: `task`, `model`, `version`, `criteria` (name → `holds`, `detail`) and
`champion`, whether the alias was set.
"""

import hashlib
import json
import logging
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from packaging.requirements import Requirement

from pipelines import tracking
from pipelines.core import bundle
from pipelines.core.command import run
from pipelines.core.errors import BundleError
from pipelines.core.params import load

log = logging.getLogger(__name__)

REGISTERED = Path(__file__).with_name("registered.py")
"""The code that MLflow runs to load the model; copied into the registry with the modules it imports."""


def gate(folder: Path, threads: int, metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each criterion that a version must meet: `holds`, and `detail` for people."""
    verdict = metrics["audit"]["verdict"]
    accused = [" / ".join(each["classes"]) for each in metrics["audit"]["pairs"] if each["verdict"] == "shortcut"]
    criteria = {
        "audit": {
            "holds": verdict in ("clean", "suspect"),
            "detail": f"{verdict}{': acquisition alone tells ' if accused else ''}{', '.join(accused)}",
        }
    }
    try:
        bundle.load(folder, threads).check()
    except BundleError as error:
        return criteria | {"reproduces": {"holds": False, "detail": str(error)}}
    detail = f"the test tensors give the same logits within {bundle.TOLERANCE}"
    return criteria | {"reproduces": {"holds": True, "detail": detail}}


def register(folder: Path, task: str, run_id: str, metrics: dict[str, Any]) -> str:
    """Register the bundle in `folder` for `task`, unless it already is, and return its version."""
    client, name = mlflow.MlflowClient(), tracking.PREFIX + task
    digest = hashlib.sha256((folder / bundle.SPEC).read_bytes()).hexdigest()
    spec = bundle.read_spec(folder)
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get("bundle") == digest:
            return str(known.version)
    with tracking.resumed(task, spec.split, run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(REGISTERED),
            artifacts={"bundle": str(folder)},
            code_paths=[str(REGISTERED.parent)],
            signature=_signature(spec),
            input_example={"pixels": bundle.load(folder, threads=1).example[:1]},
            pip_requirements=_requirements(),
            registered_model_name=name,
        )
    created = str(info.registered_model_version)
    tags = {"bundle": digest, "data_hash": spec.data_hash, "git_commit": spec.git_commit, "split": spec.split}
    tags["confounded"] = ", ".join(spec.confounded)
    tags["audit"] = metrics["audit"]["verdict"]
    tags["balanced_accuracy"] = f"{metrics['splits'][spec.split]['balanced_accuracy']:.4f}"
    for key, value in tags.items():
        client.set_model_version_tag(name, created, key, value)
    return created


def _signature(spec: bundle.Spec) -> ModelSignature:
    return ModelSignature(Schema([TensorSpec(np.dtype(np.uint16), (-1, *spec.canvas), "pixels")]))


def _requirements() -> list[str]:
    """Return the installed versions of what the core of fatescope needs."""
    needed = [Requirement(line) for line in requires("fatescope") or [] if "extra ==" not in line]
    return [f"{each.name}=={version(each.name)}" for each in needed]


def main(params: Path, task: str, models: Path, metrics: Path, target: Path) -> None:
    """Register the bundle of TASK in MODELS with the figures in METRICS; the verdict goes to the file TARGET."""
    settings, folder = load(params), models / "bundle"
    figures = json.loads(metrics.read_text())
    # The first model is the one to serve.
    run_id = json.loads((models / "models.json").read_text())["models"][0]["run_id"]
    created = register(folder, task, run_id, figures)
    criteria = gate(folder, settings.train.threads, figures)
    champion = all(each["holds"] for each in criteria.values())
    name = tracking.PREFIX + task
    if champion:
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", created)
    verdict = {"task": task, "model": name, "version": created, "criteria": criteria, "champion": champion}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(verdict, indent=2) + "\n")
    log.info("%s version %s: %s", name, created, "champion" if champion else "did not pass the gate")


if __name__ == "__main__":
    run(main)
