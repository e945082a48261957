"""Search for the best fit of one task: an Optuna study, shared by as many processes as want to, resumed after a kill.

`best.json`: `study` (its name, made of everything that decides a trial's value), `sampler`, `trials` (state → count),
`failures` (`number`, `reason`, `params`), `best` and `members` (`number`, `state`, `value`, and `params`, the fields
of the section `train` that it sets). `members` are the best trial of each backbone, then, where there are fewer
backbones than `ensemble.members`, the next best ones, none twice; each time complete ones first.
The study itself is the journal, or in the database that `FATESCOPE_STUDIES` names; whoever runs this module on the
same one joins the search. With `FATESCOPE_RAY` the workers are placed on a Ray cluster (`pipelines.tuning.launcher`).
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import optuna
import typer
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from fatescope.command import CellsFolder, OutFile, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, load
from fatescope.data import dataset, splits
from fatescope.errors import DataError
from pipelines.registry import tracking
from pipelines.training import trainer
from pipelines.training.examples import load_examples
from pipelines.tuning import launcher, search_space
from pipelines.tuning.plots import draw
from pipelines.tuning.study import ByNumber, counted, optimize, reason, revive, spent_minutes, storage, was_killed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """What a process needs to take part; travels to worker processes."""

    task: str
    params: Params
    source: Path
    parts: Path
    journal: Path
    study: str
    tags: dict[str, str]


def open_study(search: Search) -> Study:
    """Open the study, or begin it with the section `train` as its first trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    params = search.params.tune
    study = optuna.create_study(
        study_name=search.study,
        storage=storage(search.journal),
        sampler=ByNumber(params),
        pruner=optuna.pruners.HyperbandPruner(params.min_epochs, params.epochs),
        direction="maximize",
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(search_space.as_trial(search.params.train, params), skip_if_exists=True)
    return study


def objective(search: Search, parent: str) -> Callable[[Trial], float]:
    """Return what a trial is worth: balanced accuracy on the validation cells, at the epoch of the lowest loss."""
    params, classes = search.params, search.params.classes(search.task)
    source, divided = dataset.load(search.source), splits.load(search.parts)
    split = divided.available(classes)[0]
    examples = load_examples(source, divided, split, classes)
    threads = max(1, params.train.threads // params.tune.workers)

    def value(trial: Trial) -> float:
        settings, chosen = search_space.suggest(trial, params.tune, params.train)
        trial.set_user_attr("params", chosen)
        settings = settings.model_copy(update={"epochs": params.tune.epochs, "threads": threads})
        figures: list[dict[str, float]] = []
        pruned: optuna.TrialPruned | None = None
        begun = time.monotonic()
        with tracking.nested(search.task, f"trial {trial.number}", parent, search.tags) as tracked:
            trial.set_user_attr("run_id", tracked.run_id)
            tracked.log_params(settings.model_dump(mode="json"))

            def report(epoch: int, said: dict[str, float]) -> None:
                figures.append(said)
                tracked.log_metrics(said, epoch)
                trial.report(said["validation_balanced_accuracy"], epoch)
                others = spent_minutes(trial.study, params.tune)
                late = others + (time.monotonic() - begun) / 60 / params.tune.workers > params.tune.minutes
                if trial.should_prune() or (late and others > 0):
                    raise optuna.TrialPruned

            try:
                trainer.fit(examples, len(classes), settings, params.train.seeds[0], report)
            except optuna.TrialPruned as stop:
                # Raised again outside of the run, which has not failed.
                pruned = stop
                tracked.set_tag("pruned", "true")
            best = min(figures, key=lambda each: each["validation_loss"])
            tracked.log_metrics({"value": best["validation_balanced_accuracy"]}, len(figures) - 1)
        if pruned is not None:
            raise pruned
        return best["validation_balanced_accuracy"]

    return value


def summarise(study: Study | None, params: Params) -> dict[str, Any]:
    """Return the content of `best.json`; see the module. Without a study, the section `train` is the best."""
    if study is None:
        alone: dict[str, Any] = {"number": None, "value": None, "params": {}}
        return {"study": None, "sampler": None, "trials": {}, "failures": [], "best": alone, "members": [alone]}
    known = study.get_trials(deepcopy=False)
    ranked = sorted((t for t in known if t.state == TrialState.COMPLETE), key=lambda t: (-(t.value or 0), t.number))
    if not ranked:
        reasons = [reason(study, t) for t in known if t.state == TrialState.FAIL]
        raise DataError(f"tune: no trial of '{study.study_name}' ended well: {reasons[:3]}; raise tune.minutes")
    # A pruned trial is worth what it had reached: it may be the best of its backbone.
    pruned = [t for t in known if t.state == TrialState.PRUNED and t.intermediate_values]
    members = _members([*ranked, *sorted(pruned, key=lambda t: -_value(t))])
    return {
        "study": study.study_name,
        "sampler": params.tune.sampler,
        "trials": dict(Counter(trial.state.name.lower() for trial in known)),
        "failures": [
            {"number": t.number, "reason": reason(study, t), "params": t.user_attrs.get("params", t.params)}
            for t in known
            if t.state == TrialState.FAIL
        ],
        "best": _described(ranked[0]),
        "members": [_described(trial) for trial in members[: params.ensemble.members]],
    }


def _members(ranked: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the first trial of each backbone, then the others; of those with the same parameters, the first alone."""
    distinct: dict[str, FrozenTrial] = {}
    for trial in ranked:
        distinct.setdefault(json.dumps(trial.user_attrs["params"], sort_keys=True), trial)
    # The backbone that is not searched is the same for all.
    firsts: dict[str | None, FrozenTrial] = {}
    for trial in distinct.values():
        firsts.setdefault(trial.user_attrs["params"].get("backbone"), trial)
    numbers = {trial.number for trial in firsts.values()}
    return [*firsts.values(), *(trial for trial in distinct.values() if trial.number not in numbers)]


def _described(trial: FrozenTrial) -> dict[str, Any]:
    state = trial.state.name.lower()
    return {"number": trial.number, "state": state, "value": _value(trial), "params": trial.user_attrs["params"]}


def _value(trial: FrozenTrial) -> float:
    """Return the value of a trial that is complete, or the best that a pruned one had reached."""
    return trial.value if trial.value is not None else max(trial.intermediate_values.values())


def _name(task: str, params: Params, tags: dict[str, str]) -> str:
    """Return a name that is the same for searches whose trials can be compared: another one begins anew."""
    budget = {"trials", "minutes", "workers", "startup_trials"}
    decides = [
        params.tune.model_dump(mode="json", exclude=budget),
        params.train.model_dump(mode="json", exclude={"threads", "epochs", "minutes"})
        | {"seeds": params.train.seeds[0]},
        params.classes(task),
        tags,
    ]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return f"{task}-{digest[:12]}"


def _work(search: Search, parent: str) -> None:
    study = open_study(search)
    optimize(study, objective(search, parent), search.params.tune)


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    journal: Annotated[
        Path, typer.Option("--journal", help="Journal of the Optuna study; it is continued where it exists.")
    ],
    target: OutFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder to draw plots of the study into.")],
) -> None:
    """Search for the best settings of a task; continue an earlier search of the same kind."""
    settings = load(params)
    plots.mkdir(parents=True, exist_ok=True)
    journal.parent.mkdir(parents=True, exist_ok=True)
    # An output of the stage, also where the study is in a database.
    journal.touch()
    target.parent.mkdir(parents=True, exist_ok=True)
    if settings.tune.trials == 0:
        _write(target, summarise(None, settings))
        return
    search_space.check(settings)
    tags = {
        "data_hash": str(dataset.load_summary(source)["data_hash"]),
        "splits_hash": hashlib.sha256(parts.read_bytes()).hexdigest(),
    }
    # Workers on other machines have another current folder.
    paths = source.resolve(), parts.resolve(), journal.resolve()
    commit = {tracking.COMMIT: tracking.git_commit()}
    search = Search(task, settings, *paths, _name(task, settings, tags), tags | commit)
    study = open_study(search)
    revive(study)
    with tracking.resumed(task, f"tune {search.study}", study.user_attrs.get("run_id")) as tracked:
        study.set_user_attr("run_id", tracked.run_id)
        tracked.set_tags(tags | {"sampler": settings.tune.sampler})
        workers = settings.tune.workers
        launcher.work_side_by_side(_work, (search, tracked.run_id), workers, max(1, settings.train.threads // workers))
        for trial in filter(was_killed, study.get_trials(deepcopy=False)):
            tracking.end_killed(trial.user_attrs.get("run_id"))
        content = summarise(study, settings)
        _write(target, content)
        # Tags, because a larger budget may find a better one, and a parameter of a run is never changed.
        tracked.set_tags({f"best.{k}": v for k, v in content["best"]["params"].items()})
        tracked.log_metrics({"best": content["best"]["value"]}, counted(study))
        draw(study, plots)
        for path in (target, *sorted(plots.iterdir())):
            tracked.log_artifact(path)
    log.info("%s: %s; best %.3f with %s", task, content["trials"], content["best"]["value"], content["best"]["params"])


def _write(target: Path, content: dict[str, Any]) -> None:
    """Write `best.json` at once: several processes of one search may end together, each with a file of its own."""
    partial = target.with_name(f"{target.name}.{uuid4().hex[:8]}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(target)


if __name__ == "__main__":
    run(main)
