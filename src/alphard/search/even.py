"""Trials spread evenly over a space: a scrambled Sobol sequence, choices and what exists only sometimes included.

Optuna's own leaves both to chance, and counts its points in the storage, where a killed process loses some.
"""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from alphard.search.space import Categorical, Dimension, Integer, Space

POINTS = 1 << 12  # after so many trials another scrambling begins


class EvenSampler(BaseSampler):
    """Trial `number` is the number-th point of the sequence of `seed`."""

    def __init__(self, space: Space, seed: int, number: int) -> None:
        from scipy.stats import qmc

        turn, at = divmod(number, POINTS)
        random = np.random.default_rng([seed, turn])
        points = qmc.Sobol(len(space.dimensions), scramble=True, rng=random)
        if at:
            points.fast_forward(at)
        self.space, self.point = space, points.random(1)[0]

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Nothing is chosen together."""
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        """Nothing is chosen together."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        """The point's coordinate in this dimension, as a value."""
        keys = [dimension.key for dimension in self.space]
        return value_at(self.space[param_name], float(self.point[keys.index(param_name)]))


def value_at(dimension: Dimension, share: float) -> Any:
    """What lies at `share`, in [0, 1), of a dimension; of a choice, its text."""
    if isinstance(dimension, Categorical):
        return dimension.choices[int(share * len(dimension.choices))]
    if isinstance(dimension, Integer):
        count = (dimension.high - dimension.low) // dimension.step + 1
        if not dimension.log:
            return dimension.low + int(share * count) * dimension.step
        return int(_log_between(dimension.low, dimension.high + 1, share))
    if dimension.log:
        return min(_log_between(dimension.low, dimension.high, share), dimension.high)
    if dimension.step is None:
        return dimension.low + share * (dimension.high - dimension.low)
    count = round((dimension.high - dimension.low) / dimension.step) + 1
    return dimension.low + int(share * count) * dimension.step


def _log_between(low: float, high: float, share: float) -> float:
    return float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
