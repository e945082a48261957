"""How the parameters of a trial are drawn."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from fatescope.config import Tune
from pipelines.tuning.experimental import accept_experimental


class SamplerByNumber(BaseSampler):
    """Draws each trial with a seed made of the study's seed and the number of the trial.

    So an uninterrupted search can be repeated, and one that is continued later, or shared by several processes, never
    draws the same numbers again.
    """

    def __init__(self, params: Tune) -> None:
        self._params = params
        self._sampler = make_sampler(params, params.seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:  # noqa: ARG002  as Optuna calls it
        """Make the sampler of this trial; everything that a sampler learns from is in the study."""
        [seed] = np.random.SeedSequence([self._params.seed, trial.number]).generate_state(1)
        self._sampler = make_sampler(self._params, int(seed))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters that are drawn together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  as Optuna has it
        """Draw one of the other parameters."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def make_sampler(params: Tune, seed: int) -> BaseSampler:
    """Return the sampler that `params` name."""
    if params.sampler == "tpe":
        # Grouped, because a parameter may exist for some backbones only. The constant liar takes running trials for
        # bad ones, so that no worker tries the same beside them.
        return accept_experimental(TPESampler)(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=params.startup_trials, seed=seed
        )
    if params.sampler == "gp":
        make_gp = accept_experimental(GPSampler)
        return make_gp(n_startup_trials=params.startup_trials, seed=seed, deterministic_objective=False)
    return RandomSampler(seed=seed)
