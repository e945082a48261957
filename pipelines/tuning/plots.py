"""Plots of a study: its history, the importance of each parameter, and the values of trials along each parameter.

A pruned trial has the best value that it had reached: most trials of a small budget are pruned, and still tell
something about the space.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib import pyplot as plt
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as charts

from pipelines.evaluation import drawing

VALUE = "balanced accuracy (validation)"


def draw_study(study: Study, target: Path) -> None:
    """Write `history.png`, `slice.png` and, with enough trials, `importance.png` into the folder `target`.

    Where no trial has a value, nothing is written.
    """
    drawing.prepare()
    shown = with_values(study)
    if not shown.trials:
        return
    _save(target / "history.png", lambda: charts.plot_optimization_history(shown, target_name=VALUE))
    _save(target / "slice.png", lambda: charts.plot_slice(shown, target_name=VALUE))
    # Importance is the share of the variance that a parameter explains, which takes a few different values.
    if len(shown.trials) > 3 and len({trial.value for trial in shown.trials}) > 1:
        _save(target / "importance.png", lambda: charts.plot_param_importances(shown, target_name=VALUE))


def with_values(study: Study) -> Study:
    """Return a copy of `study` with the trials that have a value, all as complete, and with readable choices."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        reached = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
        if reached is not None:
            shown.add_trial(_readable(trial, reached))
    return shown


def _readable(trial: FrozenTrial, value: float) -> FrozenTrial:
    params: dict[str, Any] = dict(trial.params)
    distributions: dict[str, BaseDistribution] = dict(trial.distributions)
    for name, distribution in trial.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            # Choices are kept as JSON; its quotes and brackets are left out here.
            distributions[name] = CategoricalDistribution([_text(choice) for choice in distribution.choices])
            params[name] = _text(params[name])
    return optuna.trial.create_trial(state=TrialState.COMPLETE, value=value, params=params, distributions=distributions)


def _text(choice: object) -> str:
    return str(choice).strip('"[]').replace(", ", "x")


def _save(path: Path, plot: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        # Optuna calls its matplotlib charts experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        # Optuna also changes the style of all later figures.
        with mpl.rc_context():
            plot()
            figure = plt.gcf()
            if path.stem == "slice":
                figure.set_size_inches(2.6 * len(figure.axes), 4.5)
                for axes in figure.axes:
                    axes.tick_params(axis="x", labelrotation=40, labelsize=8, which="both")
            else:
                figure.set_size_inches(8, 4.5)
            figure.savefig(path, dpi=120, bbox_inches="tight")
            plt.close(figure)
