"""Register a bundle in MLflow, let the gate decide whether it becomes the champion, and write the verdict and the card.

An error of the registry ends the stage: only a registry that says so has no champion. Within `dvc exp run` a version is
registered and decided on, and no alias moves.

A bundle is registered and decided on once: what a person changed afterwards, such as a rollback, stays. Only files of
the version that are lost or damaged are put back. The stage runs always, because the registry may be another one than
last time. The bundle of the version has what says where it comes from: `attestation.json`, and `sbom.cdx.json`. Writes
`gate.json` (`registry.records.Verdict`).
"""

import getpass
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import mlflow
import typer
from mlflow.exceptions import MlflowException

from fatescope import audit_log
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
from fatescope.data import dataset, tracks
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.data.splits import load as load_splits
from fatescope.errors import BundleError, DataError, FatescopeError, ImageError
from fatescope.file_hash import sha256
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import CHALLENGER, CHAMPION, model_name
from pipelines.provenance.attestation import ATTESTATION, attest, to_text
from pipelines.provenance.components import SBOM, list_components
from pipelines.provenance.recipe import Recipe
from pipelines.registry import aliases, gate, tracking, versions
from pipelines.registry.gate import Champion, NoComparison
from pipelines.registry.log_version import log_version, restore_version
from pipelines.registry.paired import predict_paired
from pipelines.registry.protocol import draw_up
from pipelines.registry.records import Verdict
from pipelines.reporting import hub_results, model_card
from pipelines.settings import PipelineSettings
from pipelines.training.report import TrainingReport

log = logging.getLogger(__name__)
Documents = dict[str, str]
"""File → text that a bundle gets when it is registered."""
Logged = TypeVar("Logged")

EXPERIMENT = "DVC_EXP_NAME"
"""The variable by which DVC tells stages that they are part of an experiment."""


def find_damage(folder: Path, threads: int) -> str | None:
    """Return why the bundle in `folder` does not reproduce its test tensors here, if so."""
    try:
        bundle.load(folder, threads).check()
    except BundleError as error:
        return str(error)
    return None


def run_champion(
    task: str, folder: Path, source: CellDataset, splits: Splits, params: Params
) -> Champion | NoComparison:
    """Run the champion and the bundle in `folder` on the same cells now."""
    current = versions.get_by_alias(task, CHAMPION)
    if current is None:
        return NoComparison("no champion yet", None)
    number = str(current.version)
    try:
        with versions.download(task, number) as before:
            of_cells = tracks.read(source, params.dataset)
            paired = predict_paired(before, folder, source, splits, params.train.threads, of_cells)
            return Champion(number, paired, versions.earlier_looks(task))
    except (BundleError, DataError, ImageError) as error:
        return NoComparison(f"version {number}, the champion, cannot be compared with: {error}", number)


def register(
    task: str,
    models: Path,
    sources: model_card.Sources,
    cells: CellDataset,
    parts: Path,
    params: Params,
) -> Verdict:
    """Register the bundle of `task`, decide on it, move the aliases, and return the verdict."""
    digest, documents = sha256(models / "bundle" / bundle.SPEC), document(models, sources.spec, parts)
    existing = versions.find_by_bundle(task, digest)
    if existing is not None and (verdict := versions.verdict_of(existing)) is not None:
        if reason := versions.find_damage(task, verdict.version):
            log.warning("version %s is put back from %s: %s", verdict.version, models / "bundle", reason)
            restore = partial(restore_version, task, verdict.version)
            _with_card(models, replace(sources, gate=verdict), documents, restore)
        return verdict
    # Versions are numbered one after the other; the card that goes into the version must name it.
    number = str(existing.version) if existing is not None else versions.next_number(task)
    verdict = decide(task, models / "bundle", sources, cells, load_splits(parts), params, number)
    complete = replace(sources, gate=verdict, history=tuple(versions.history(task, without=number)))
    if existing is None:
        tags = {"bundle": digest, "splits_hash": sha256(parts)}
        tags["attestation"] = hashlib.sha256(documents[ATTESTATION].encode()).hexdigest()
        logged = partial(log_version, task, metrics=sources.metrics, tags=tags)
        registered = _with_card(models, complete, documents, logged)
        verdict = verdict.model_copy(update={"version": registered})
    _record(task, verdict, model_card.render(complete))
    return verdict


def decide(
    task: str,
    folder: Path,
    sources: model_card.Sources,
    cells: CellDataset,
    splits: Splits,
    params: Params,
    number: str,
) -> Verdict:
    """Return the verdict of the gate on the bundle in `folder`, which is or will be the version `number`."""
    comparison = run_champion(task, folder, cells, splits, params)
    damage = find_damage(folder, params.train.threads)
    criteria = gate.decide(task, sources.metrics, damage, comparison, params.gate)
    promoted = all(criterion.holds for criterion in criteria.values()) and not is_experiment()
    return Verdict(
        task=task,
        model=model_name(task),
        version=number,
        criteria=criteria,
        champion=promoted,
        replaced=comparison.version if promoted else None,
        compared=comparison.reason if isinstance(comparison, NoComparison) and comparison.version is None else None,
        against=comparison.version,
    )


def is_experiment() -> bool:
    """Return whether `dvc exp run` runs this stage: then versions are registered and decided on, and no alias moves."""
    return EXPERIMENT in os.environ


def document(models: Path, spec: Spec, parts: Path) -> Documents:
    """Return what says where the bundle of `models` comes from, the same whenever it is made."""
    folder, run_id = models / "bundle", TrainingReport.load(models).models[0].run_id
    recipe, digest = Recipe.read(folder), sha256(folder / bundle.SPEC)
    return {
        ATTESTATION: to_text(attest(spec, digest, sha256(parts), run_id, recipe)),
        SBOM: to_text(list_components(spec, digest, recipe)),
    }


def _with_card(
    models: Path, sources: model_card.Sources, documents: Documents, log_bundle: Callable[[Path, str, Spec], Logged]
) -> Logged:
    """Call `log_bundle` with a copy of the bundle, the run that trained it, and its spec.

    The copy contains the card and the `documents`.
    """
    # The first model is the one to serve.
    run_id = TrainingReport.load(models).models[0].run_id
    with tempfile.TemporaryDirectory(prefix="fatescope-") as name:
        folder = Path(shutil.copytree(models / "bundle", Path(name) / "bundle"))
        model_card.write(sources, folder)
        _write_results(sources, folder)
        shutil.rmtree(folder / "card")
        for file, text in documents.items():
            (folder / file).write_text(text, encoding="utf-8")
        bundle.finalize(folder, sources.spec)
        return log_bundle(folder, run_id, sources.spec)


def _write_results(sources: model_card.Sources, folder: Path) -> None:
    spec, dataset = sources.spec, PipelineSettings().hub_dataset
    hub_results.write(sources.metrics, spec.task, spec.data_hash, dataset, folder)


def _record(task: str, verdict: Verdict, card: str) -> None:
    """Move the aliases, and leave the verdict and the beginning of the card with the version."""
    client, name, number, who = tracking.client(), model_name(task), verdict.version, getpass.getuser()
    evidence = verdict.to_evidence()
    note = "\n\n(The whole card is card.md and card.html in the bundle.)"
    client.update_model_version(name, number, card[: versions.MAX_TAG - len(note)].rpartition("\n\n")[0] + note)
    if not is_experiment():
        aliases.move(audit_log.REGISTRATION, task, CHALLENGER, number, who=who, evidence=evidence)
    if verdict.replaced:
        versions.set_tags(task, number, {"replaced": verdict.replaced})
    if verdict.champion:
        aliases.move(audit_log.PROMOTION, task, CHAMPION, number, who=who, evidence=evidence)
    # Last, because a version with this tag is not decided on again.
    versions.set_tags(task, number, verdict.to_tags(versions.MAX_TAG))


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
    settings, cells = load(params), dataset.load(source, model_card.columns(source))
    sources = model_card.read_sources(models / "bundle", cells, metrics, audit, pictures)
    sources = replace(sources, protocol=draw_up(task, settings))
    try:
        verdict = register(task, models, sources, cells, parts, settings)
        history = tuple(versions.history(task, without=verdict.version))
    except MlflowException as error:
        raise FatescopeError(
            f"{mlflow.get_registry_uri()}: the registry did not answer ({error.message}); run `dvc repro register` "
            "when it does"
        ) from error
    verdict.write(target)
    complete = replace(sources, gate=verdict, history=history)
    model_card.write(complete, target.parent / "registered")
    _write_results(complete, target.parent / "registered")
    log.info("%s version %s: %s", verdict.model, verdict.version, verdict.describe())


if __name__ == "__main__":
    run(main)
