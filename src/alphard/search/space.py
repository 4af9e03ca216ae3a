"""A search space: typed dimensions.  grammar.py reads them from Hydra's grammar; no tuner is known here."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from alphard.refusals import ungrammatical

FORMS = "interval(a, b), int(interval(a, b)), range(a, b) or choice(x, y)"


@dataclass(frozen=True)
class Condition:
    """A dimension's parent and the choice, as text, with which alone it exists."""

    parent: str
    choice: str

    def __str__(self) -> str:
        return f"{self.parent}={self.choice}"


@dataclass(frozen=True)
class Continuous:
    """Floats in [low, high]; with a step, low, low + step, … up to high."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Condition | None = None

    def ends(self) -> list[Any]:
        """The values that stand for all."""
        return list(dict.fromkeys([self.low, self.high]))

    def holds(self, value: Any) -> bool:
        """Whether a trial may have it; a step is not asked for."""
        return _is_number(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        text = f"interval({self.low:g}, {self.high:g})" + (f" in steps of {self.step:g}" if self.step else "")
        return f"tag(log, {text})" if self.log else text


@dataclass(frozen=True)
class Integer:
    """Whole numbers low, low + step, … up to high, which is one of them."""

    key: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Condition | None = None

    def ends(self) -> list[Any]:
        """The values that stand for all."""
        return list(dict.fromkeys([self.low, self.high]))

    def holds(self, value: Any) -> bool:
        """Whether a trial may have it."""
        return _is_number(value) and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def __str__(self) -> str:
        text = f"int(interval({self.low}, {self.high}))" + (f" in steps of {self.step}" if self.step > 1 else "")
        return f"tag(log, {text})" if self.log else text


@dataclass(frozen=True)
class Categorical:
    """One of several values, each kept as the text that Hydra reads as it: lists and numbers alike."""

    key: str
    choices: tuple[str, ...]
    when: Condition | None = None

    def ends(self) -> list[Any]:
        """All values."""
        return [self.value(text) for text in self.choices]

    def holds(self, value: Any) -> bool:
        """Whether a trial may have it, as a value or as its text."""
        return self.text(value) is not None

    def value(self, text: str) -> Any:
        """What a choice's text means in a config."""
        return parse(self.key, text).value()

    def text(self, value: Any) -> str | None:
        """The choice that means `value`; None where none does."""
        for text in self.choices:
            meant = self.value(text)
            if (meant == value and isinstance(meant, bool) == isinstance(value, bool)) or text == value:
                return text
        return None

    def __str__(self) -> str:
        return f"choice({', '.join(self.choices)})"


Dimension = Continuous | Integer | Categorical


@dataclass(frozen=True)
class Space:
    """Dimensions in the order in which they are chosen, a condition's parent before what depends on it."""

    dimensions: tuple[Dimension, ...]

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __getitem__(self, key: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.key == key)

    def __contains__(self, key: object) -> bool:
        return any(dimension.key == key for dimension in self.dimensions)

    def active(self, chosen: Mapping[str, Any]) -> Iterator[Dimension]:
        """The dimensions of a trial, each asked for when the ones before it stand in `chosen` (texts of choices)."""
        for dimension in self.dimensions:
            if dimension.when is None or chosen.get(dimension.when.parent) == dimension.when.choice:
                yield dimension

    def values(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's config values, from what a tuner chose: numbers, and choices by their texts."""
        found: dict[str, Any] = {}
        for key, value in chosen.items():
            dimension = self[key]
            found[key] = dimension.value(value) if isinstance(dimension, Categorical) else value
        return found

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every trial of a space without intervals of floats, as a tuner would choose it."""
        yield from self._grid({}, 0)

    def combinations(self) -> int:
        """How many trials the whole grid has."""
        return sum(1 for _ in self.grid())

    def _grid(self, chosen: dict[str, Any], at: int) -> Iterator[dict[str, Any]]:
        if at == len(self.dimensions):
            yield dict(chosen)
            return
        dimension = self.dimensions[at]
        if dimension.when is not None and chosen.get(dimension.when.parent) != dimension.when.choice:
            yield from self._grid(chosen, at + 1)
            return
        for value in steps(dimension):
            yield from self._grid(chosen | {dimension.key: value}, at + 1)


def steps(dimension: Dimension) -> list[Any]:
    """A grid's values of a dimension; ValueError for an interval of floats."""
    if isinstance(dimension, Categorical):
        return list(dimension.choices)
    if isinstance(dimension, Integer):
        return list(range(dimension.low, dimension.high + 1, dimension.step))
    if dimension.step is None:
        raise ValueError("an interval of floats has no grid")
    count = round((dimension.high - dimension.low) / dimension.step)
    return [dimension.low + i * dimension.step for i in range(count + 1)]


@functools.lru_cache(maxsize=4096)  # ANTLR takes a millisecond, and a search asks for few texts
def parse(key: str, text: str) -> Override:
    """`key=text` as Hydra reads it; ValueError where it cannot."""
    try:
        return OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException as error:
        raise ValueError(ungrammatical(error, f"give {FORMS}")) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
