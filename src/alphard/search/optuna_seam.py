"""A space and its settings in Optuna's terms."""

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial

from alphard.search import points
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Continuous, Dimension, Space

# tpe and gp begin with a Sobol sequence, which covers a space better than random draws (Bergstra and Bengio 2012, 5);
# of so many trials at least, and of more where fewer than these have ended, as in a first pack.
STARTUP = 8
# tpe chooses among so many; with Optuna's 24 it finds less in the same trials, and a trial costs far more.
CANDIDATES = 128

# Where Optuna keeps what it suggested to a trial that runs.  Its gp would take a trial that was killed while its values
# were written for another that runs, and keep away from what it had suggested itself.
SUGGESTED = "gp:relative_params"

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a user should know, the search says in its own words


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as what Optuna draws from; a categorical's choices are texts."""
    if isinstance(dimension, Categorical):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Continuous):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


class Sampler(BaseSampler):
    """Chooses a trial's values, from the search's seed, the trial's number and the results so far alone.

    So a search that was killed, in the middle of a choice too, goes on as it would have, and never repeats the draws of
    its beginning.

    known: trials of a warm start, which have the first numbers.
    """

    def __init__(self, settings: Settings, space: Space, known: int) -> None:
        self.settings, self.space, self.known = settings, space, known

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is chosen together, by what is known; it comes first, and only where anything is left to choose."""
        begins = self.settings.algorithm in ("tpe", "gp") and trial.number < STARTUP
        self.learner = None if begins else _learner(self.settings, trial.number - self.known)
        return self.learner.infer_relative_search_space(study, trial) if self.learner else {}

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        """Values for what is chosen together."""
        if self.learner is None:
            return {}
        for key in trial.system_attrs:
            if key.startswith(SUGGESTED):
                study._storage.set_trial_system_attr(trial._trial_id, key, "")
        return self.learner.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        """A value of which nothing is known yet, or learned: the coordinate of the trial's point."""
        place = points.even if self.settings.algorithm in ("qmc", "tpe", "gp") else points.scattered
        point = place(self.space, self.settings.seed, trial.number - self.known)
        keys = [dimension.key for dimension in self.space]
        return points.value_at(self.space[param_name], float(point[keys.index(param_name)]))


def _learner(settings: Settings, number: int) -> BaseSampler | None:
    """What learns from the results, for trial `number`; None where nothing does."""
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.algorithm == "tpe":
            # The trials that run count as bad ones, so that no two workers try the same.
            return TPESampler(
                seed=seed,
                multivariate=True,
                group=True,
                n_startup_trials=STARTUP,
                n_ei_candidates=CANDIDATES,
                constant_liar=settings.parallel > 1 or settings.engine == "packed",
            )
        if settings.algorithm == "gp":
            return GPSampler(seed=seed, n_startup_trials=STARTUP)
        if settings.algorithm == "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return None


def pruner(settings: Settings, epochs: int) -> BasePruner:
    """What ends a trial early; `epochs` is the most that a trial of this study may take."""
    grace, reduction = settings.pruner.grace_epochs, settings.pruner.reduction
    if settings.pruner.kind == "asha":
        return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=reduction)
    if settings.pruner.kind == "hyperband":
        most = max(grace, epochs)
        return HyperbandPruner(min_resource=grace, max_resource=most, reduction_factor=reduction)
    if settings.pruner.kind == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=grace)
    return NopPruner()


def choose(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """A trial's value of each dimension that exists for it; what was chosen before, or is queued, stands."""
    chosen: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dimension in space.active(chosen):
            chosen[dimension.key] = _suggest(trial, dimension)
    return chosen


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    if isinstance(dimension, Categorical):
        return trial.suggest_categorical(dimension.key, dimension.choices)
    if isinstance(dimension, Continuous):
        return trial.suggest_float(dimension.key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return trial.suggest_int(dimension.key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
