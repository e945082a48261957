"""Pictures of a study: what it found when, what mattered, and where the good values lie.

A pruned trial counts with the best that it had reached: most trials of a small budget are pruned, and what they say of
the space is not thrown away.
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
from optuna.visualization import matplotlib as pictures

VALUE = "balanced accuracy (validation)"


def draw(study: Study, target: Path) -> None:
    """Write `history.png`, `slice.png` and, where trials are enough, `importance.png` into the folder `target`."""
    mpl.use("Agg")
    shown = as_shown(study)
    _save(target / "history.png", lambda: pictures.plot_optimization_history(shown, target_name=VALUE))
    _save(target / "slice.png", lambda: pictures.plot_slice(shown, target_name=VALUE))
    # Importance is how the value varies with a parameter: it takes a few values that differ.
    if len(shown.trials) > 3 and len({trial.value for trial in shown.trials}) > 1:
        _save(target / "importance.png", lambda: pictures.plot_param_importances(shown, target_name=VALUE))


def as_shown(study: Study) -> Study:
    """Return the trials of `study` that have a value, complete, with choices written as people would."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        reached = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
        if reached is not None:
            shown.add_trial(_plain(trial, reached))
    return shown


def _plain(trial: FrozenTrial, value: float) -> FrozenTrial:
    params: dict[str, Any] = dict(trial.params)
    distributions: dict[str, BaseDistribution] = dict(trial.distributions)
    for name, distribution in trial.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            # They are kept as JSON; its quotes and brackets say nothing here.
            distributions[name] = CategoricalDistribution([_text(each) for each in distribution.choices])
            params[name] = _text(params[name])
    return optuna.trial.create_trial(state=TrialState.COMPLETE, value=value, params=params, distributions=distributions)


def _text(choice: object) -> str:
    return str(choice).strip('"[]').replace(", ", "x")


def _save(path: Path, plot: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        # Optuna calls its matplotlib pictures experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        # It also changes the style of all pictures that come after.
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
