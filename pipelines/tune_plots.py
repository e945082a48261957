"""Pictures of a study: what it found when, what mattered, and where the good values lie."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib import pyplot as plt
from optuna.study import Study
from optuna.visualization import matplotlib as pictures

log = logging.getLogger(__name__)

VALUE = "balanced accuracy (validation)"


def draw(study: Study, target: Path) -> None:
    """Write `history.png`, `importance.png` and `slice.png` into the folder `target`, those that the trials allow."""
    mpl.use("Agg")
    _save(target / "history.png", lambda: pictures.plot_optimization_history(study, target_name=VALUE))
    _save(target / "slice.png", lambda: pictures.plot_slice(study, target_name=VALUE))
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    # Importance is how the value varies with a parameter: it takes a few values that differ.
    if len(complete) > 3 and len({trial.value for trial in complete}) > 1:
        _save(target / "importance.png", lambda: pictures.plot_param_importances(study, target_name=VALUE))


def _save(path: Path, plot: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        # Optuna calls its matplotlib pictures experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        plot()
    figure = plt.gcf()
    width = 3.2 * len(figure.axes) if path.stem == "slice" else 8
    figure.set_size_inches(max(8, width), 4.5)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
