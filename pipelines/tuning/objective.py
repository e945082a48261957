"""One trial: a fit with the parameters that it was given, and its value."""

import time

import optuna
from optuna.trial import Trial

from fatescope.config import Train
from fatescope.data import dataset, splits
from pipelines.registry import tracking
from pipelines.registry.tracking import Tracked
from pipelines.training import trainer
from pipelines.training.budget import measure_speed
from pipelines.training.examples import load_search_examples
from pipelines.training.pace import Clock
from pipelines.tuning import search_space
from pipelines.tuning.budget import TrialTooLongError, minutes_left
from pipelines.tuning.study import Search

Metrics = list[dict[str, float]]
"""Metrics of each epoch of a trial."""


class Objective:
    """The value of a trial: the balanced accuracy on the validation cells, at the epoch of the lowest loss.

    A trial that would not end within `tune.minutes` fails: stopped in the middle of its schedule, or with a shorter
    one, it could not be compared with the others.
    """

    def __init__(self, search: Search, parent: str, clock: Clock = time.monotonic) -> None:
        self._search, self._parent, self._clock = search, parent, clock
        params, self._classes = search.params, search.params.classes(search.task)
        divided = splits.load(search.splits)
        self._examples = load_search_examples(dataset.load(search.cells, ["label", "group"]), divided, self._classes)
        self._threads = max(1, params.train.threads // params.tune.workers)

    def __call__(self, trial: Trial) -> float:
        """Fit a network; raise TrialPruned where it falls behind, TrialTooLongError where it would not end in time."""
        search, tune = self._search, self._search.params.tune
        settings, chosen = search_space.suggest(trial, tune, search.params.train)
        trial.set_user_attr("params", chosen)
        settings = settings.model_copy(update={"epochs": tune.epochs, "threads": self._threads})
        metrics: Metrics = []
        stop: Exception | None = None
        with tracking.nested(search.task, f"trial {trial.number}", self._parent, search.tags) as run:
            trial.set_user_attr("run_id", run.run_id)
            run.log_params(settings.model_dump(mode="json"))
            try:
                self._fit(trial, settings, run, metrics)
            except (optuna.TrialPruned, TrialTooLongError) as error:
                # Raised again outside of the run, which has not failed.
                stop = error
                run.set_tag("pruned" if isinstance(error, optuna.TrialPruned) else "too_long", "true")
            if metrics:
                run.log_metrics({"value": _value(metrics)}, len(metrics) - 1)
        if stop is not None:
            raise stop
        return _value(metrics)

    def _fit(self, trial: Trial, settings: Train, run: Tracked, metrics: Metrics) -> None:
        tune = self._search.params.tune
        # The workers share the minutes.
        left, start_s = minutes_left(trial.study, tune), self._clock()
        speed = measure_speed(self._examples, len(self._classes), settings, self._clock)
        needed_s = speed.fit_s(settings, len(self._examples.train), len(self._examples.validation))
        if needed_s / 60 / tune.workers > left:
            raise TrialTooLongError(needed_s / 60 / tune.workers, left)

        def report(epoch: int, epoch_metrics: dict[str, float]) -> None:
            metrics.append(epoch_metrics)
            run.log_metrics(epoch_metrics, epoch)
            trial.report(epoch_metrics["validation_balanced_accuracy"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            spent = (self._clock() - start_s) / 60 / tune.workers
            if spent > left and epoch + 1 < settings.epochs:
                raise TrialTooLongError(spent * settings.epochs / (epoch + 1), left)

        seed = self._search.params.train.seeds[0]
        trainer.fit(self._examples, len(self._classes), settings, seed, report)


def _value(metrics: Metrics) -> float:
    best = min(metrics, key=lambda epoch: epoch["validation_loss"])
    return best["validation_balanced_accuracy"]
