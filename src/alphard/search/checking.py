"""A space held against the config that it searches, before the first trial: each value that stands for others."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest
from alphard.compose import Refusals, must_be_sound, paths
from alphard.errors import UserError
from alphard.search.configs import Configs, existing
from alphard.search.grammar import AT
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Continuous, Dimension, Space

GOLDEN = 0.618034  # no end, and no whole number, where an interval has room for others


def check(space: Space, settings: Settings, configs: Configs, base: DictConfig) -> None:
    """Raise UserError with everything that would go wrong in a trial.

    base: the config of all trials, checked first, for its own problems would be said of every value.
    """
    must_be_sound(base)
    problems = [*_settings(space, settings)]
    for dimension in space:
        problems += _dimension(space, dimension, configs)
    if problems:
        raise UserError(*dict.fromkeys(problems))


def place(dimension: Dimension) -> str:
    """Where a dimension is written."""
    return f"{AT}.when.{dimension.when}.{dimension.key}" if dimension.when else f"{AT}.{dimension.key}"


def _settings(space: Space, settings: Settings) -> Iterator[str]:
    for dimension in space:
        if settings.algorithm == "grid" and isinstance(dimension, Continuous) and dimension.step is None:
            remedy = "give choice(...) or range(a, b, step=c), or another search.algorithm"
            yield f"{place(dimension)}: {dimension}: a grid has no intervals of floats; {remedy}"
    for number, values in enumerate(settings.initial):
        for key, value in values.items():
            if key not in space:
                known = [dimension.key for dimension in space]
                yield f"search.initial[{number}].{key}: is no dimension of this space{nearest(key, known)}"
            elif not space[key].holds(value):
                yield f"search.initial[{number}].{key}: {value!r} lies outside {space[key]}"


def _dimension(space: Space, dimension: Dimension, configs: Configs) -> Iterator[str]:
    at, parents = f"{place(dimension)}: {dimension}", existing(space, dimension)
    for value in _stand_ins(dimension):
        try:
            must_be_sound(configs.trial(space, {**parents, dimension.key: value}))
        except OmegaConfBaseException:
            yield f"{place(dimension)}: no such key{_near(configs, space, parents, dimension.key)}"
            return
        except Refusals as error:
            yield f"{at}: {str(error).strip().splitlines()[0]}"
            return
        except UserError as error:
            yield from _of_this(at, dimension, value, error.problems)


def _of_this(at: str, dimension: Dimension, value: Any, problems: tuple[str, ...]) -> Iterator[str]:
    """The config's problems as the space's; what is wrong elsewhere is said as it is."""
    for problem in problems:
        path, _, why = problem.partition(": ")
        if path.partition("[")[0] != dimension.key:
            yield problem
        elif isinstance(dimension, Continuous) and "integer" in why:
            low, high = round(dimension.low), round(dimension.high)
            yield f"{at}: the key takes whole numbers; write int(interval({low}, {high}))"
        else:
            yield f"{at}: {why}"


def _stand_ins(dimension: Dimension) -> Iterator[Any]:
    """Both ends and a value between, or every choice's text."""
    if isinstance(dimension, Categorical):
        yield from dimension.choices
    else:
        if isinstance(dimension, Continuous) and dimension.step is None:
            yield dimension.low + GOLDEN * (dimension.high - dimension.low)
        yield from dimension.ends()


def _near(configs: Configs, space: Space, parents: Mapping[str, Any], key: str) -> str:
    config: DictConfig = configs.trial(space, parents)
    return nearest(key, paths(config)) or "; --cfg job shows them all"
