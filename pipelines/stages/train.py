"""Train the models of one task: choose a candidate by cross-fitting, refit it on all its cells, write bundles.

`bundle/` is the model to serve, trained on the grouped scheme, or on the random one where the classes are confounded
with their groups. `compared/` holds the bundles that it is compared with: other seeds, the candidate that was not
chosen, and the chosen candidate on the random scheme.

`models.json`: `chosen` (the candidate that is served, `single`, `ensemble` or `distilled`); `candidates` (name →
`members`, which are the section `train` of each network with the epochs of its refit; `validation_loss`,
`validation_balanced_accuracy` and `temperature`, of training and validation cells by networks that had not seen them;
`parameters`, `multiply_adds` a cell, `fit_seconds` and, where it could be measured, `energy_wh`); `models`, one entry a
bundle, the served one first: `folder`, `split` (its scheme), `candidate`, `seed`, `run_id`; and `budget`: `minutes` and
`epochs` of the section `train`, and `planned_epochs`, as many of them as fit into the minutes on this machine, half at
least.
`shortened` says of a candidate and of a model that its fits took fewer steps than planned, because their part of the
minutes was over.

Several GPUs train one network together under `torchrun` (`pipelines.training.distributed`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from fatescope.command import (
    BestFile,
    CellsFolder,
    OutFolder,
    ParamsFile,
    QualityFile,
    SplitsFile,
    TaskName,
    run,
)
from fatescope.config import Params, Train, load
from pipelines.pretraining.result import PretrainedFolder, with_pretrained
from pipelines.provenance.recipe import Machine, Recipe
from pipelines.registry import tracking
from pipelines.registry.tracking import Tracked
from pipelines.settings import PipelineSettings
from pipelines.training import distributed, selection, trainer
from pipelines.training.budget import TrainingPlan, plan_training
from pipelines.training.bundle_writer import build_spec, write_bundle
from pipelines.training.candidate_fits import OpenRun
from pipelines.training.context import TrainingContext, load_context
from pipelines.training.cross_fit import Folds, check_groups, deal_folds
from pipelines.training.device import describe_device
from pipelines.training.distillation import BACKBONE, KEPT, student_settings
from pipelines.training.examples import Examples
from pipelines.training.known_before import check_known_before
from pipelines.training.report import BudgetReport, CandidateReport, ModelEntry, TrainingReport
from pipelines.training.selection import DISTILLED, ENSEMBLE, SINGLE, Candidate
from pipelines.tuning.result import SearchResult

log = logging.getLogger(__name__)

COMPARED = "compared"
"""Folder of the bundles that are not served."""


class SchemeResult(NamedTuple):
    """What training on one scheme gave."""

    chosen: str
    """The candidate that `choose` chose."""
    candidates: dict[str, CandidateReport]
    models: list[ModelEntry]

    @property
    def shortened(self) -> bool:
        """Whether any fit took fewer steps than planned."""
        candidates = any(report.shortened for report in self.candidates.values())
        return candidates or any(model.shortened for model in self.models)


def candidate_settings(params: Params, best: SearchResult) -> dict[str, list[Train]]:
    """Return candidate → the settings of its networks, from the result of the search."""
    own = params.train.model_copy(update={"distil": False})
    candidates = {SINGLE: [own.changed(best.best.params)]}
    if params.ensemble.members > 1:
        if len(best.members) > 1:
            members = best.members[: params.ensemble.members]
            candidates[ENSEMBLE] = [own.changed(trial.params) for trial in members]
        else:
            log.warning("no ensemble: the search has one distinct trial only; raise tune.trials or add to tune.space")
    if params.train.distil:
        student = student_settings(teacher_settings(candidates), params.ingest.canvas)
        if student is None:
            log.warning(
                "nothing is distilled: the single network is %s already, or the networks of the ensemble are "
                "normalised or resized in different ways, or to inputs of other proportions than ingest.canvas; set "
                "ensemble.members or another train.backbone, or leave one of these ways in tune.space",
                BACKBONE,
            )
        else:
            candidates[DISTILLED] = [student]
    return candidates


def teacher_settings(candidates: dict[str, list[Train]]) -> list[Train]:
    """Return the settings of the networks that teach: those of the ensemble, where there is one."""
    return candidates.get(ENSEMBLE, candidates[SINGLE])


def choose(candidates: list[Candidate]) -> int:
    """Return the number of the candidate to serve: that with the lowest loss on cells that its networks have not seen.

    The distilled one is served in its place where it costs less, and keeps KEPT of the balanced accuracy on these
    cells.
    """
    number = min(range(len(candidates)), key=lambda number: candidates[number].calibration.loss)
    best = candidates[number]
    for other, candidate in enumerate(candidates):
        cheaper = candidate.model.multiply_adds < best.model.multiply_adds
        enough = candidate.calibration.balanced_accuracy >= KEPT * best.calibration.balanced_accuracy
        if candidate.name == DISTILLED and cheaper and enough:
            return other
    return number


def divide(context: TrainingContext, scheme: str) -> tuple[Examples, Folds]:
    """Return the training and validation cells of one scheme, and the folds that they are dealt to."""
    examples, calibrate = context.examples(scheme), context.params.calibrate
    return examples, deal_folds(examples, context.groups, calibrate, whole=scheme == "grouped", tracks=context.tracks)


def train_scheme(
    context: TrainingContext, scheme: str, plan: TrainingPlan, target: Path, tracked: Tracked | None
) -> SchemeResult:
    """Train the candidates of `plan` on one scheme, and write a bundle of each below `target`."""
    open_run, params, classes = _run_opener(context.task, tracked), context.params, len(context.classes)
    examples, folds = divide(context, scheme)
    candidates = selection.train_candidates(
        examples, folds, classes, list(plan.settings.values()), params, open_run, plan.seconds, teacher=plan.teacher
    )
    # Processes round differently, and must go on with the same one.
    chosen = candidates[distributed.broadcast_object(choose(candidates))]
    serves = scheme == context.schemes[0]
    models: list[ModelEntry] = []
    for candidate in sorted(candidates, key=lambda candidate: candidate is not chosen):
        # The spread over seeds is measured for the model that is served alone.
        for seed in params.train.seeds if serves and candidate is chosen else params.train.seeds[:1]:
            refit = selection.refit_candidate(candidate, examples, classes, seed, params, open_run, plan.seconds)
            folder = "bundle" if serves and not models else f"{COMPARED}/{scheme}-{candidate.name}-{seed}"
            if distributed.is_primary():
                spec = build_spec(candidate, refit, examples, scheme, seed, context)
                write_bundle(refit, spec, context, target / folder, candidate.calibration.accuracy_error)
            run_id = tracked.run_id if tracked else ""
            entry = {"folder": folder, "split": scheme, "candidate": candidate.name, "seed": seed, "run_id": run_id}
            models.append(ModelEntry.model_validate(entry | {"shortened": refit.shortened}))
    return SchemeResult(chosen.name, {candidate.name: _report(candidate) for candidate in candidates}, models)


def _report(candidate: Candidate) -> CandidateReport:
    calibration = candidate.calibration
    return CandidateReport(
        members=candidate.members,
        validation_loss=calibration.loss,
        validation_balanced_accuracy=calibration.balanced_accuracy,
        temperature=calibration.temperature,
        parameters=candidate.model.parameters,
        multiply_adds=candidate.model.multiply_adds,
        fit_seconds=candidate.fits.seconds,
        energy_wh=candidate.fits.energy_wh,
        shortened=candidate.shortened,
    )


def _run_opener(task: str, tracked: Tracked | None) -> OpenRun:
    """Return what opens an MLflow run below `tracked` for each fit; without `tracked`, nothing is tracked."""

    @contextmanager
    def open_run(name: str, settings: Train) -> Iterator[trainer.Report]:
        if tracked is None:
            yield lambda *_: None
            return
        with tracking.nested(task, name, tracked.run_id, {}) as fit_run:
            fit_run.log_params(settings.model_dump(mode="json"))
            yield lambda epoch, metrics: fit_run.log_metrics(metrics, epoch)

    return open_run


def _track(context: TrainingContext, scheme: str, plan: TrainingPlan, target: Path) -> SchemeResult:
    """Train on one scheme in a tracked run of the primary process."""
    with tracking.resumed(context.task, scheme) if distributed.is_primary() else nullcontext() as tracked:
        if tracked:
            tracked.set_tags({"split": scheme, "data_hash": context.data_hash})
        result = train_scheme(context, scheme, plan, target, tracked)
        if tracked:
            candidates = {name: report.model_dump(mode="json") for name, report in result.candidates.items()}
            tracked.log_metrics({"candidates": candidates})
            fit = plan.settings[result.chosen][0].model_dump(mode="json")
            tracked.log_params({"candidate": result.chosen, "fit": fit, "epochs": context.params.train.epochs})
            tracked.set_tag("shortened", str(result.shortened))
    return result


def train(context: TrainingContext, settings: dict[str, list[Train]], target: Path) -> TrainingReport:
    """Train on all schemes of the task; on those after the first, only the candidate that was chosen there.

    Raises ParamsError, before the first fit, where cells of a scheme are too few groups for `train.groups: dro`, or
    where the weights of `train.weights` were trained on all test cells of a class.
    """
    check_known_before(context, [member for members in settings.values() for member in members])
    weighing = [member for members in settings.values() for member in members if member.groups == "dro"]
    for scheme in context.schemes if weighing else ():
        check_groups(*divide(context, scheme), weighing)
    plan = plan_training(context, settings, teacher=teacher_settings(settings) if DISTILLED in settings else ())
    first, *others = context.schemes
    served = _track(context, first, plan, target)
    teacher = plan.teacher if served.chosen == DISTILLED else []
    chosen = replace(plan, settings={served.chosen: plan.settings[served.chosen]}, teacher=teacher)
    compared = [_track(context, scheme, chosen, target) for scheme in others]
    params = context.params.train
    report = TrainingReport(
        chosen=served.chosen,
        candidates=served.candidates,
        models=[model for result in (served, *compared) for model in result.models],
        budget=BudgetReport(minutes=params.minutes, epochs=params.epochs, planned_epochs=plan.epochs),
    )
    if shortened := [model.folder for model in report.models if model.shortened]:
        log.warning(
            "train.minutes: the fits of %s took fewer steps than planned, because their part of it was over", shortened
        )
    return report


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    best: BestFile,
    target: OutFolder,
    quality: QualityFile = None,
    pretrained: PretrainedFolder = None,
) -> None:
    """Train the model of a task with the settings that tune found, and write its bundle."""
    parameters = with_pretrained(load(params), pretrained)
    context = load_context(parameters, task, source, parts, tracking.git_commit(), quality)
    settings = candidate_settings(parameters, SearchResult.load(best))
    with distributed.process_group(PipelineSettings()):
        context = replace(context, recipe=Recipe.begin(parameters, Machine.here(*describe_device())))
        if distributed.is_primary():
            rmtree(target / COMPARED, ignore_errors=True)
            (target / COMPARED).mkdir(parents=True)
        report = train(context, settings, target)
        if distributed.is_primary():
            report.save(target)


if __name__ == "__main__":
    run(main)
