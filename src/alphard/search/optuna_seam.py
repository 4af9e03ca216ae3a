"""A space and its settings in Optuna's terms."""

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from alphard.search.even import EvenSampler
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Continuous, Dimension, Space

# tpe and gp begin with a Sobol sequence, which covers a space better than random draws (Bergstra and Bengio 2012, 5).
STARTUP = 8
# tpe chooses among so many; with Optuna's 24 it finds less in the same trials, and a trial costs far more.
CANDIDATES = 128

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a user should know, the search says in its own words


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as what Optuna draws from; a categorical's choices are texts."""
    if isinstance(dimension, Categorical):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Continuous):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def sampler(settings: Settings, space: Space, number: int, known: int = 0) -> BaseSampler:
    """What chooses trial `number`, made anew for each: a choice depends on seed, number and the results so far alone.

    So a search that was killed goes on as it would have, and never repeats the draws of its beginning.

    known: trials of a warm start.
    """
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    if settings.algorithm == "qmc" or (settings.algorithm in ("tpe", "gp") and number + known < STARTUP):
        return EvenSampler(space, settings.seed, number)
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
    return RandomSampler(seed=seed)


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
