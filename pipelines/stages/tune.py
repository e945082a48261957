"""Search for the best hyperparameters of one task: an Optuna study that any number of processes share.

`best.json`: `study` (its name, which stands for everything that decides the value of a trial), `sampler`, `trials`
(state → number), `failures` (`number`, `reason`, `params`), `best` and `members` (`number`, `state`, `value`, and
`params`, the fields of the section `train` that the trial sets). `members` are the networks of an ensemble: the best
trial of each backbone, then, where there are fewer backbones than `ensemble.members`, the next best ones, none twice;
complete trials come before pruned ones. A trial that does not end within `tune.minutes` on this machine is among the
`failures`, and is tried again under a larger budget; where none ends, `best` is the section `train` as it stands.

The study is in the journal, or in the database that `FATESCOPE_STUDIES` names. It is continued after an interruption,
and whoever runs this stage on the same study joins the search. With `FATESCOPE_RAY` its workers run on a Ray cluster
(`pipelines.tuning.launcher`).
"""

import hashlib
import logging
from pathlib import Path
from typing import Annotated

import typer
from optuna.study import Study

from fatescope.command import CellsFolder, OutFile, ParamsFile, PlotsFolder, SplitsFile, TaskName, run
from fatescope.config import load
from fatescope.data import dataset
from fatescope.lineage import WRITES
from pipelines.pretraining.result import PretrainedFolder, hash_of, with_pretrained
from pipelines.registry import tracking
from pipelines.registry.tracking import Tracked
from pipelines.settings import PipelineSettings
from pipelines.tuning import launcher, search_space
from pipelines.tuning.budget import count_trials, queue_affordable
from pipelines.tuning.objective import Objective
from pipelines.tuning.plots import draw_study
from pipelines.tuning.recovery import recover_lost_trials, was_lost
from pipelines.tuning.result import SearchResult
from pipelines.tuning.study import Search, open_study, run_trials, study_name
from pipelines.tuning.summary import summarise, without_search

log = logging.getLogger(__name__)


def search(task: Search, target: Path, plots: Path) -> SearchResult:
    """Run the search until its budget is spent; write `target`, and `plots` of the study."""
    study, params = open_study(task), task.params
    recover_lost_trials(study, task.settings)
    queue_affordable(study, params.tune)
    with tracking.resumed(task.task, f"tune {task.study}", study.user_attrs.get("run_id")) as tracked:
        study.set_user_attr("run_id", tracked.run_id)
        tracked.set_tags(task.tags | {"sampler": params.tune.sampler})
        workers = launcher.Workers(params.tune.workers, max(1, params.train.threads // params.tune.workers))
        launcher.run_workers(_work, (task, tracked.run_id), workers, task.settings)
        for trial in filter(was_lost, study.get_trials(deepcopy=False)):
            tracking.end_killed(trial.user_attrs.get("run_id"))
        result = summarise(study, params)
        result.save(target)
        _track(result, study, tracked, target, plots)
    return result


def _work(task: Search, parent: str) -> None:
    """Take part in the search; this runs in each worker."""
    run_trials(open_study(task), Objective(task, parent), task.params.tune, task.settings)


def _track(result: SearchResult, study: Study, tracked: Tracked, target: Path, plots: Path) -> None:
    # Tags, because a larger budget may find a better trial, and a parameter of a run is never changed.
    tracked.set_tags({f"best.{name}": value for name, value in result.best.params.items()})
    if result.best.value is not None:
        tracked.log_metrics({"best": result.best.value}, count_trials(study))
    draw_study(study, plots)
    for path in (target, *sorted(plots.iterdir())):
        tracked.log_artifact(path)


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    journal: Annotated[
        Path, typer.Option("--journal", help="Journal of the Optuna study; created where it is not."), WRITES
    ],
    target: OutFile,
    plots: PlotsFolder,
    pretrained: PretrainedFolder = None,
) -> None:
    """Search for the best hyperparameters of a task."""
    written = load(params)
    # Workers on other machines have another current folder.
    parameters = with_pretrained(written, pretrained.resolve() if pretrained else None)
    plots.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The journal is an output of the stage, also where the study is in a database.
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.touch()
    if parameters.tune.trials == 0:
        without_search().save(target)
        return
    search_space.check(parameters)
    tags = {
        "data_hash": str(dataset.load_summary(source)["data_hash"]),
        "splits_hash": hashlib.sha256(parts.read_bytes()).hexdigest(),
        **hash_of(parameters),
    }
    searched = Search(
        task=task,
        params=parameters,
        settings=PipelineSettings(),
        cells=source.resolve(),
        splits=parts.resolve(),
        journal=journal.resolve(),
        # Of what is written, because a project may be moved; the weights themselves are in the tags.
        study=study_name(task, written, tags),
        tags=tags | {tracking.COMMIT: tracking.git_commit()},
    )
    result = search(searched, target, plots)
    log.info("%s: %s; best %s with %s", task, result.trials, result.best.value, result.best.params)


if __name__ == "__main__":
    run(main)
