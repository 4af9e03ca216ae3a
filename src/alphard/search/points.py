"""Trials as points of a cube, one coordinate for each dimension of a space, choices and what exists only sometimes too.

So no value depends on those drawn before it.  Optuna draws one after the other, and its Sobol sequence leaves choices
to chance and counts its points in the storage, where a killed process loses some.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from alphard.search.space import Categorical, Dimension, Integer, Space

Point = npt.NDArray[np.float64]

SCRAMBLED = 1 << 12  # trials, after which another scrambling of the sequence begins


@functools.lru_cache(maxsize=1)  # a trial's dimensions ask one by one, and it takes a third of a millisecond
def even(space: Space, seed: int, number: int) -> Point:
    """The number-th point, (D,) in [0, 1), of the scrambled Sobol sequence of `seed`."""
    from scipy.stats import qmc

    turn, at = divmod(number, SCRAMBLED)
    points = qmc.Sobol(len(space.dimensions), scramble=True, rng=np.random.default_rng([seed, turn]))
    if at:
        points.fast_forward(at)
    return np.asarray(points.random(1)[0])


def scattered(space: Space, seed: int, number: int) -> Point:
    """A point, (D,) in [0, 1), anywhere: of each `seed` and `number` its own."""
    return np.random.default_rng([seed, number]).random(len(space.dimensions))


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
