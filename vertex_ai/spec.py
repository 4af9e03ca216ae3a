"""A search space as Vertex AI's StudySpec: exactly, or refused by name.

A value that Vertex AI chooses comes back as text, and a number in any spelling: 64, 64.0, 6.4e1.  Where that would not
bring the very choice back, it is sent as a category.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alphard import arguments, literals
from alphard.errors import UserError
from alphard.own_values import OwnValues
from alphard.search.checking import place
from alphard.search.configs import Configs, existing
from alphard.search.settings import Pack, Settings
from alphard.search.space import Categorical, Continuous, Dimension, Integer, Space, parse, steps

MOST = 1000  # values of a DISCRETE parameter, as the API's reference says
APART = 1e-10  # two of them, likewise
EXACT = 2**53  # the API carries every number as a double
ALGORITHMS = {
    "tpe": None,
    "gp": None,
    "random": "RANDOM_SEARCH",
    "grid": "GRID_SEARCH",
}  # None is Vertex's Bayesian one


class Reader:
    """What the container makes of an argument's text, in a trial in which the dimension exists."""

    def __init__(self, space: Space, configs: Configs, said: Sequence[str]) -> None:
        self.space, self.configs, self.said = space, configs, said

    def same(self, dimension: Dimension, text: str, meant: Any) -> bool:
        """Whether the text arrives as the value that is meant, of the same types all through."""
        if dimension.key in self.configs.groups:
            return isinstance(meant, str | list) and parse(dimension.key, text).value() == meant
        try:
            arrives = parse(dimension.key, self.literal(dimension, text)).value()
        except ValueError:
            return False
        if self.real(dimension) and isinstance(meant, int | float):
            return bool(arrives == meant)
        return bool(_typed(arrives) == _typed(meant))

    def literal(self, dimension: Dimension, text: str) -> str:
        """What the text arrives as, in Hydra's syntax; ValueError where that cannot be written."""
        if dimension.key in self.configs.groups:
            return literals.write(literals.plain(parse(dimension.key, text).value()))
        return literals.write(self._own(dimension).typed(dimension.key, text))

    def real(self, dimension: Dimension) -> bool:
        """Whether the config's own value is a float, beside which 1 and 1.0 are one."""
        return isinstance(self._own(dimension).own(dimension.key), float)

    def _own(self, dimension: Dimension) -> OwnValues:
        groups = {k: choice for k, choice in existing(self.space, dimension).items() if k in self.configs.groups}
        return _own_values(self.configs.folder, tuple(self.said), tuple(groups.items()))


@functools.lru_cache(maxsize=64)
def _own_values(folder: str, said: tuple[str, ...], groups: tuple[tuple[str, str], ...]) -> OwnValues:
    overrides = [(text.partition("=")[0], text, False) for text in said if "=" in text]
    return OwnValues(Path(folder), {}, [*overrides, *((key, choice, True) for key, choice in groups)])


def study_spec(space: Space, settings: Settings, configs: Configs, said: Sequence[str]) -> dict[str, Any]:
    """The StudySpec, in the REST API's form; UserError with everything in the search that Vertex AI cannot say.

    configs, said: the trials' configs and the job's own arguments; the config's own values decide how text is read.
    """
    problems = [*_unsaid(settings)]
    read = Reader(space, configs, said)
    parameters: dict[str, dict[str, Any]] = {}
    roots = []
    for dimension in space:
        try:
            parameters[dimension.key] = spec = _parameter(dimension, read)
        except ValueError as error:
            problems.append(f"{place(dimension)}: {dimension}: {error}")
            continue
        if dimension.when is None:
            roots.append(spec)
        elif dimension.when.parent in parameters:
            _hang(spec, parameters[dimension.when.parent], space[dimension.when.parent], dimension.when.choice)
    if problems:
        raise UserError(*problems)
    metric = {"metricId": settings.objective, "goal": settings.direction.upper()}
    algorithm = ALGORITHMS[settings.algorithm]
    return {"metrics": [metric], "parameters": roots} | ({"algorithm": algorithm} if algorithm else {})


def ignored(settings: Settings) -> list[str]:
    """What only spends less and has no counterpart in a tuning job."""
    said = {
        "initial": settings.initial,
        "warm_start": settings.warm_start,
        "pruner": settings.pruner.kind != "none",
        "pack": settings.pack != Pack(),
    }
    return [name for name, value in said.items() if value]


def _unsaid(settings: Settings) -> Iterator[str]:
    if settings.algorithm not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        yield f"search.algorithm: {settings.algorithm}: Vertex AI has no counterpart; give one of {known}"
    if settings.time_budget is not None:
        remedy = "take it out; timeout=HOURS bounds each trial"
        yield f"search.time_budget: {settings.time_budget:g}: a tuning job has no budget of time; {remedy}"


def _parameter(dimension: Dimension, read: Reader) -> dict[str, Any]:
    """A dimension's own ParameterSpec; ValueError with why there is none."""
    key = dimension.key
    if not arguments.KEY.fullmatch(key) or f"--{key}" in (arguments.SWITCHES | arguments.VALUED) - {"--package"}:
        raise ValueError("the key cannot be the name of a container's argument")
    spec: dict[str, Any] = {"parameterId": key}
    if isinstance(dimension, Categorical):
        return spec | _choices(dimension, read)
    _must_come_back(dimension, read)
    step = dimension.step if isinstance(dimension, Continuous) else dimension.step if dimension.step > 1 else None
    if step is not None or dimension.low == dimension.high:
        return spec | _discrete([float(value) for value in (steps(dimension) if step else [dimension.low])])
    kind = "doubleValueSpec" if isinstance(dimension, Continuous) else "integerValueSpec"
    scale = "UNIT_LOG_SCALE" if dimension.log else "UNIT_LINEAR_SCALE"
    return spec | {kind: {"minValue": dimension.low, "maxValue": dimension.high}, "scaleType": scale}


def _must_come_back(dimension: Continuous | Integer, read: Reader) -> None:
    """Raise ValueError where the numbers of a range would not arrive as they are meant, however they are spelled."""
    values = dimension.ends()
    if isinstance(dimension, Continuous):  # a whole number among floats may come without its point
        values += [float(whole) for whole in [math.ceil(dimension.low)] if whole <= dimension.high]
    elif max(map(abs, values)) > EXACT:
        raise ValueError("Vertex AI carries numbers as doubles, which hold whole ones up to 2^53")
    for value in values:
        for text in spellings(value):
            if not read.same(dimension, text, value):
                remedy = "give the key a number of its own in configs/" + ", or choice(…)" * isinstance(
                    dimension, Integer
                )
                raise ValueError(
                    f"beside the config's own value, which is no such number, {text} is not {value}; {remedy}"
                )


def spellings(number: float) -> list[str]:
    """How Vertex AI may write a number, as far as one knows."""
    found = [repr(number), repr(float(number)), f"{float(number):.17e}"]
    return found + [str(int(number))] * float(number).is_integer()


def _discrete(values: list[float]) -> dict[str, Any]:
    if len(values) > MOST:
        raise ValueError(f"makes {len(values)} values, and Vertex AI takes {MOST}; give wider steps, or no steps")
    if not _apart(values):
        raise ValueError(f"Vertex AI takes values that are {APART:g} apart; give wider steps")
    return {"discreteValueSpec": {"values": sorted(values)}}


def _choices(dimension: Categorical, read: Reader) -> dict[str, Any]:
    """DISCRETE where every number comes back as it was chosen, in any spelling; else CATEGORICAL."""
    if dimension.key not in read.configs.groups and _are_numbers(dimension, read):
        return _discrete([float(dimension.value(choice)) for choice in dimension.choices])
    return {"categoricalValueSpec": {"values": [text_of(dimension, choice, read) for choice in dimension.choices]}}


def text_of(dimension: Categorical, choice: str, read: Reader) -> str:
    """A choice's text as a container's argument; ValueError for one that no text brings back."""
    meant = dimension.value(choice)
    candidates = [meant if isinstance(meant, str) else choice]
    candidates += [json.dumps(meant)] if isinstance(meant, list | dict) else []
    for text in candidates:
        ambiguous = arguments.OPTION.fullmatch(text) or arguments.LIKE_NATIVE.fullmatch(text)
        if not ambiguous and read.same(dimension, text, meant):
            return text
    raise ValueError(f"the choice {choice} cannot be said in a container's argument; name it otherwise")


def _are_numbers(dimension: Categorical, read: Reader) -> bool:
    numbers = dimension.ends()
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) <= EXACT for n in numbers):
        return False
    alike = (read.same(dimension, text, number) for number in numbers for text in spellings(number))
    return len(numbers) <= MOST and _apart([float(number) for number in numbers]) and all(alike)


def _apart(values: list[float]) -> bool:
    return all(b - a >= APART for a, b in itertools.pairwise(sorted(values)))


def _hang(spec: dict[str, Any], parent: dict[str, Any], dimension: Dimension, choice: str) -> None:
    """Let a parameter exist with one choice of its parent alone."""
    assert isinstance(dimension, Categorical), "a condition's parent is a choice"
    if "discreteValueSpec" in parent:
        condition = {"parentDiscreteValues": {"values": [float(dimension.value(choice))]}}
    else:
        text = parent["categoricalValueSpec"]["values"][dimension.choices.index(choice)]
        condition = {"parentCategoricalValues": {"values": [text]}}
    parent.setdefault("conditionalParameterSpecs", []).append({"parameterSpec": spec} | condition)


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _typed(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else (type(value), value)
