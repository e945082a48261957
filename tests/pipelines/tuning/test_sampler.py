"""The sampler draws no trial twice, and is better than chance."""

import math

import numpy as np
import optuna
import pytest
from scipy.stats import wilcoxon

from pipelines.tuning.sampler import SamplerByNumber
from tests.support.studies import open_journal


def cheap(trial):
    """Highest, 0, at a rate of 3e-3, a decay of 0.02 and backbone b; as flat and bumpy as real ones."""
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    decay = trial.suggest_float("decay", 1e-4, 1.0, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.9)
    penalty = {"a": 0.3, "b": 0.0, "c": 0.5}[trial.suggest_categorical("backbone", ["a", "b", "c"])]
    return -penalty - math.log10(rate / 3e-3) ** 2 - 0.5 * math.log10(decay / 0.02) ** 2 - (dropout - 0.2) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [("tpe", 60), ("gp", 6)])
def test_the_search_beats_chance_on_a_known_optimum(make_params, name, seeds):
    """With the same budget of trials; the Gaussian process is slower, and so far ahead that few seeds show it."""

    def regret(which, seed):
        params = make_params({"tune.sampler": which, "tune.startup_trials": 8, "tune.seed": seed}).tune
        study = optuna.create_study(direction="maximize", sampler=SamplerByNumber(params))
        study.optimize(cheap, n_trials=30)
        return -study.best_value

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ours, chance = ([regret(which, seed) for seed in range(seeds)] for which in (name, "random"))
    assert np.mean(ours) < 0.6 * np.mean(chance)
    assert wilcoxon(ours, chance, alternative="less").pvalue < 0.02


@pytest.mark.parametrize("which", ["tpe", "gp", "random"])
def test_no_two_trials_of_a_study_draw_the_same(make_params, tmp_path, which):
    params = make_params({"tune.sampler": which}).tune

    def drawn(name, *opened):
        """Begin a trial for each of `opened`, which says whether its process opens the study just before."""
        store, values = open_journal(tmp_path / name), []
        study = optuna.create_study(study_name="a", storage=store, sampler=SamplerByNumber(params))
        for anew in opened:
            if anew:
                study = optuna.load_study(study_name="a", storage=store, sampler=SamplerByNumber(params))
            trial = study.ask()
            values.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, values[-1])
        return values

    once = drawn("once", False, False, False, False)
    assert len(set(once)) == 4
    assert drawn("again", False, False, False, False) == once
    assert drawn("resumed", False, False, True, True) == once, "and none of the first two again"
    # Two shells begin at once.
    store = open_journal(tmp_path / "shells")
    samplers = [SamplerByNumber(params) for _ in range(2)]
    optuna.create_study(study_name="a", storage=store)
    trials = [optuna.load_study(study_name="a", storage=store, sampler=each).ask() for each in samplers]
    assert len({trial.suggest_float("x", 0, 1) for trial in trials}) == 2
