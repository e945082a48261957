"""Put a bundle into the MLflow registry, let the gate decide on it, and write the verdict and the last card.

The same bundle is registered, and decided on, once: what a person has changed since, such as a rollback, stays. The
stage always runs, because the registry may be another one than last time.
`gate.json`: `task`, `model`, `version`, `criteria` (name → `holds`, `detail` and figures), `champion` (whether it took
the alias), `replaced` (the champion before it) and `compared` (why there was no comparison, where there was none).
"""

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import replace
from importlib.metadata import requires, version
from pathlib import Path
from typing import Annotated, Any

import mlflow
import numpy as np
import typer
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from packaging.requirements import Requirement

import fatescope
from fatescope.command import (
    AuditFile,
    CellsFolder,
    MetricsFile,
    ModelsFolder,
    OutFile,
    ParamsFile,
    SplitsFile,
    TaskName,
    run,
)
from fatescope.config import Params, load
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.errors import BundleError, DataError, ImageError
from fatescope.inference import bundle
from fatescope.model_registry import CHALLENGER, CHAMPION, model_name
from pipelines.registry import gate, paired, tracking, versions
from pipelines.registry.gate import Both
from pipelines.reporting import model_card

log = logging.getLogger(__name__)

REGISTERED = Path(versions.__file__).with_name("pyfunc.py")
"""The code that MLflow runs to load the model."""
LIBRARY = Path(fatescope.__file__).parent
"""What it imports: the library goes into the registry with each version, so that a later one does not change it."""


def damage(folder: Path, threads: int) -> str | None:
    """Return why the bundle in `folder` does not reproduce its test tensors here, if so."""
    try:
        bundle.load(folder, threads).check()
    except BundleError as error:
        return str(error)
    return None


def compare(
    task: str, folder: Path, source: CellDataset, divided: Splits, threads: int
) -> tuple[Both | str | None, str]:
    """Run the champion and the bundle in `folder` on the same cells now.

    Returns the comparison, or why there can be none on these cells, which the gate does not let pass; or None, where
    there is no champion that answers the same question and runs here. The text tells people of that.
    """
    champion = versions.holder(task, CHAMPION)
    if champion is None:
        return None, "no champion yet"
    try:
        with versions.fetched(task, str(champion.version)) as before:
            pair = paired.pair(before, folder, source, divided, threads)
    except BundleError as error:
        return None, f"nothing to compare with: version {champion.version} does not run here ({error})"
    except (DataError, ImageError) as error:
        return f"version {champion.version} could not be compared with: {error}", ""
    return pair.both(source, str(champion.version)), ""


def log_version(
    task: str, folder: Path, run_id: str, spec: bundle.Spec, metrics: dict[str, Any], tags: dict[str, object]
) -> str:
    """Log the bundle in `folder` as an MLflow model into its run, register it, tag it, and return its version."""
    with tracking.resumed(task, spec.split, run_id) as tracked:
        about = json.dumps({"data_hash": spec.data_hash, "splits_hash": tags["splits_hash"]})
        data = Dataset(name="cells", digest=spec.data_hash[-36:], source_type="dvc", source=about)
        context = [InputTag("mlflow.data.context", "training")]
        tracking.client().log_inputs(tracked.run_id, [DatasetInput(dataset=data, tags=context)])
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(REGISTERED),
            artifacts={"bundle": str(folder)},
            code_paths=[str(LIBRARY)],
            signature=_signature(spec),
            input_example={"pixels": bundle.load(folder, threads=1).example[:1]},
            pip_requirements=_requirements(),
            registered_model_name=model_name(task),
        )
    created = str(info.registered_model_version)
    figures = metrics["splits"][spec.split]
    low, high = figures["intervals"]["balanced_accuracy"]
    versions.set_tags(
        task,
        created,
        tags
        | {"data_hash": spec.data_hash, "git_commit": spec.git_commit, "split": spec.split}
        | {"confounded": ", ".join(spec.confounded), "audit": metrics["audit"]["verdict"]}
        | {"balanced_accuracy": f"{figures['balanced_accuracy']:.4f}"}
        | {"balanced_accuracy.low": f"{low:.4f}", "balanced_accuracy.high": f"{high:.4f}"},
    )
    return created


def register(
    task: str,
    models: Path,
    sources: model_card.Sources,
    known: CellDataset,
    parts: Path,
    params: Params,
) -> dict[str, Any]:
    """Register the bundle of `task`, decide on it, move the aliases, and return the verdict; see the module."""
    folder, threads = models / "bundle", params.train.threads
    digest = hashlib.sha256((folder / bundle.SPEC).read_bytes()).hexdigest()
    found = versions.find(task, digest)
    if found is not None and "gate" in found.tags:
        verdict: dict[str, Any] = json.loads(found.tags["gate"])
        return verdict
    both, why = compare(task, folder, known, splits.load(parts), threads)
    criteria = gate.decide(task, sources.metrics, damage(folder, threads), both, params.gate)
    champion = all(each["holds"] for each in criteria.values())
    verdict = {
        "task": task,
        "model": model_name(task),
        # Versions are numbered one after the other; the card that goes into the version must name it.
        "version": str(found.version) if found else versions.next_version(task),
        "criteria": criteria,
        "champion": champion,
        "replaced": _replaced(task) if champion else None,
        "compared": why or None,
    }
    # The first model is the one to serve.
    run_id = json.loads((models / "models.json").read_text())["models"][0]["run_id"]
    told = replace(sources, gate=verdict, history=tuple(versions.history(task, verdict["version"])))
    if found is None:
        tags: dict[str, object] = {"bundle": digest, "splits_hash": hashlib.sha256(parts.read_bytes()).hexdigest()}
        with tempfile.TemporaryDirectory(prefix="fatescope-") as name:
            whole = Path(shutil.copytree(folder, Path(name) / "bundle"))
            model_card.write(told, whole)
            shutil.rmtree(whole / "card")
            bundle.finalize(whole, sources.spec)
            verdict["version"] = log_version(task, whole, run_id, sources.spec, sources.metrics, tags)
    _decided(task, verdict, model_card.render(told))
    return verdict


def _replaced(task: str) -> str | None:
    before = versions.holder(task, CHAMPION)
    return str(before.version) if before else None


def _decided(task: str, verdict: dict[str, Any], card: str) -> None:
    """Move the aliases, and leave the verdict and the head of the card with the version."""
    client, name, created = tracking.client(), model_name(task), verdict["version"]
    note = "\n\n(The whole card is card.md and card.html in the bundle.)"
    client.update_model_version(name, created, card[: versions.MAX_TAG - len(note)].rpartition("\n\n")[0] + note)
    client.set_registered_model_alias(name, CHALLENGER, created)
    if verdict["replaced"]:
        versions.set_tags(task, created, {"replaced": verdict["replaced"]})
    if verdict["champion"]:
        client.set_registered_model_alias(name, CHAMPION, created)
    # Last, because it says that all of the above is done.
    versions.set_tags(task, created, {"gate": verdict})


def _signature(spec: bundle.Spec) -> ModelSignature:
    return ModelSignature(Schema([TensorSpec(np.dtype(np.uint16), (-1, *spec.canvas), "pixels")]))


def _requirements() -> list[str]:
    """Return the installed versions of what the core of fatescope needs."""
    needed = [Requirement(line) for line in requires("fatescope") or [] if "extra ==" not in line]
    return [f"{each.name}=={version(each.name)}" for each in needed]


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    models: ModelsFolder,
    metrics: MetricsFile,
    audit: AuditFile,
    pictures: Annotated[Path, typer.Option("--card", help="Folder of pictures that the stage card wrote.")],
    target: OutFile,
) -> None:
    """Register the bundle of a task and let the gate decide whether it becomes the champion.

    The card of the registered version, with the verdict in it, is written beside the verdict.
    """
    settings, known = load(params), dataset.load(source)
    sources = model_card.sources(models / "bundle", known, metrics, audit, pictures)
    verdict = register(task, models, sources, known, parts, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(verdict, indent=2) + "\n")
    told = replace(sources, gate=verdict, history=tuple(versions.history(task, verdict["version"])))
    model_card.write(told, target.parent / "registered")
    failed = [name for name, each in verdict["criteria"].items() if not each["holds"]]
    said = f"not champion: {failed}" if failed else "champion"
    log.info("%s version %s: %s", verdict["model"], verdict["version"], said)


if __name__ == "__main__":
    run(main)
