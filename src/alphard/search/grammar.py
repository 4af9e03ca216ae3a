"""A search space as people write it, in Hydra's grammar, read into typed dimensions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep

from alphard import literals
from alphard.check import nearest
from alphard.errors import UserError
from alphard.search.space import FORMS, Categorical, Condition, Continuous, Dimension, Integer, Space, parse

AT = "search.space"


def read(space: Mapping[str, Any], given: Sequence[tuple[str, Override]] = ()) -> Space:
    """The space of a search config, narrowed and fixed by the overrides of a command line.

    space: config paths and their sweeps, and `when`: {PARENT=CHOICE: {path: sweep}}.
    given: text and override of a sweep, or of one value.  A value fixes its key, which leaves the space, unless the
           key exists only with some choice: then it stays, with that one value.

    Raises UserError with every problem.
    """
    reader = _Reader(space, given)
    if reader.problems:
        raise UserError(*dict.fromkeys(reader.problems))
    return Space(tuple(reader.dimensions.values()))


class _Reader:
    """Reads what exists always, what the command line says of it, what exists sometimes, and again its narrowing."""

    def __init__(self, space: Mapping[str, Any], given: Sequence[tuple[str, Override]]) -> None:
        self.problems: list[str] = []
        self.dimensions: dict[str, Dimension] = {}
        self.fixed: dict[str, str] = {}
        when = space.get("when") or {}
        if not isinstance(when, Mapping):
            raise UserError(f"{AT}.when: {when!r}; give {{PARENT=CHOICE: {{key: sweep}}}}")
        sometimes = {str(key) for inner in when.values() if isinstance(inner, Mapping) for key in inner}
        for key, written in space.items():
            if key != "when":
                self._add(str(key), written, AT)
        self.before = dict(self.dimensions)
        self._narrow([(text, o) for text, o in given if o.key_or_group not in sometimes])
        for condition, inner in when.items():
            self._add_when(str(condition), inner)
        self._narrow([(text, o) for text, o in given if o.key_or_group in sometimes])
        if not self.dimensions and not self.problems:
            why = f"the command line fixes {', '.join(self.fixed)}" if self.fixed else f"give it a key and {FORMS}"
            self.problems.append(f"{AT}: there is nothing to search; {why}")

    def _add(self, key: str, written: Any, at: str, when: Condition | None = None) -> None:
        try:
            if key in self.dimensions:
                raise ValueError("stands twice in the space; give it one range")
            self.dimensions[key] = replace(_dimension(key, _sweep(key, written)), when=when)
        except ValueError as error:
            self.problems.append(f"{at}.{key}: {_shown(written)}{error}")

    def _add_when(self, condition: str, inner: Any) -> None:
        at = f"{AT}.when.{condition}"
        if not isinstance(inner, Mapping) or not inner:
            self.problems.append(f"{at}: {inner!r}; give what exists only then, {{key: sweep}}")
            return
        try:
            exists, when = self._condition(condition)
        except ValueError as error:
            self.problems.append(f"{at}: {error}")
            return
        for key, written in inner.items():
            if exists:
                self._add(str(key), written, at, when)

    def _narrow(self, given: Sequence[tuple[str, Override]]) -> None:
        for text, override in given:
            key, written = override.key_or_group, text.partition("=")[2]
            before = self.dimensions.get(key)
            try:
                if override.is_sweep_override():
                    now = _dimension(key, override.value())
                    self.dimensions[key] = now if before is None else replace(_like(now, before), when=before.when)
                elif before is not None and before.when is not None:
                    self.dimensions[key] = Categorical(key, (written,), before.when)
                else:
                    self.dimensions.pop(key, None)
                    self.fixed[key] = written
            except ValueError as error:
                self.problems.append(f"{key}: {_shown(written)}{error}")

    def _condition(self, text: str) -> tuple[bool, Condition | None]:
        """Whether PARENT=CHOICE can be, and the condition; None where the command line has settled that it is."""
        parent, equals, choice = text.partition("=")
        if not equals:
            raise ValueError("a condition is written PARENT=CHOICE")
        meant, before = parse(parent, choice).value(), self.before.get(parent)
        if before is None:
            raise ValueError(f"{parent} is no dimension of this space{nearest(parent, self.before)}")
        if not isinstance(before, Categorical):
            raise ValueError(f"{parent} is {before}; a condition needs a choice(...)")
        if before.text(meant) is None:
            raise ValueError(f"{parent} is {before}, and never {choice}{nearest(choice, before.choices)}")
        if parent in self.fixed:
            return bool(parse(parent, self.fixed[parent]).value() == meant), None
        now = self.dimensions[parent]
        known = now.text(meant) if isinstance(now, Categorical) else None
        return known is not None, None if known is None else Condition(parent, known)


def _like(now: Dimension, before: Dimension) -> Dimension:
    """A narrower interval keeps the scale, and the whole numbers, of what it narrows."""
    if isinstance(now, Categorical) or isinstance(before, Categorical):
        return now
    if isinstance(now, Continuous) and isinstance(before, Integer):
        if now.low % 1 or now.high % 1:
            raise ValueError(f"the key is searched in whole numbers; give int(interval({now.low:g}, {now.high:g}))")
        now = Integer(now.key, int(now.low), int(now.high))
    if before.log and not (now.log or now.step not in (None, 1)):
        _must_be_positive(now.low, str(now))
        return replace(now, log=True)
    return now


def _sweep(key: str, written: Any) -> Any:
    """What a space's value says, read as Hydra reads it on a command line."""
    if isinstance(written, list | tuple):
        inside = ", ".join(map(str, written))
        raise ValueError(f"a list is one value; write choice({inside}) for several")
    if not isinstance(written, str):
        raise ValueError(f"is one value; give {FORMS}, or remove it from the space")
    override = parse(key, written)
    if not override.is_sweep_override():
        raise ValueError(f"is one value; give {FORMS}, or remove it from the space")
    return override.value()


def _dimension(key: str, sweep: Any) -> Dimension:
    tags = {str(tag) for tag in getattr(sweep, "tags", ())}
    if tags - {"log"}:
        raise ValueError(f"has tag {', '.join(sorted(tags - {'log'}))}; the one tag is log")
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep.start, sweep.end, bool(tags))
    if isinstance(sweep, RangeSweep):
        return _range(key, sweep, bool(tags))
    if isinstance(sweep, ChoiceSweep):
        if tags:
            raise ValueError("a choice has no scale; give tag(log, interval(a, b))")
        return Categorical(key, _texts(sweep))
    raise ValueError(f"is no sweep that a search knows; give {FORMS}")


def _interval(key: str, low: Any, high: Any, log: bool) -> Dimension:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("an interval needs finite ends")
    if low > high:
        raise ValueError(f"is upside down; write interval({high:g}, {low:g})")
    if log:
        _must_be_positive(low, f"interval({low:g}, {high:g})")
    return Integer(key, low, high, log) if isinstance(low, int) else Continuous(key, float(low), float(high), log)


def _range(key: str, sweep: RangeSweep, log: bool) -> Dimension:
    try:
        values = sorted(sweep.range())
    except (ValueError, AssertionError) as error:  # a step of zero
        raise ValueError(str(error)) from None
    if not values:
        raise ValueError("holds no value; a range leaves its end out")
    low, high, step = values[0], values[-1], abs(sweep.step)
    if log and step != 1:
        raise ValueError("a log scale has no steps; give tag(log, int(interval(a, b)))")
    if log:
        _must_be_positive(low, "range")
    if all(isinstance(value, int) for value in values):
        return Integer(key, low, high, log, int(step))
    return Continuous(key, float(low), float(high), step=float(step))


def _texts(sweep: ChoiceSweep) -> tuple[str, ...]:
    try:
        texts = tuple(dict.fromkeys(literals.write(_plain(value)) for value in sweep.list))
    except ValueError as error:
        raise ValueError(f"cannot be chosen from: {error}") from None
    if not texts:
        raise ValueError("has nothing to choose from")
    return texts


def _plain(value: Any) -> Any:
    """A value that Hydra parsed, as what literals writes.  Of choice('1e5') Hydra itself would lose the quotes."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return literals.Plain(str(value).lower())
    return literals.Plain("null" if value is None else repr(value))


def _must_be_positive(low: float, text: str) -> None:
    if low <= 0:
        raise ValueError(f"{text} with tag log starts at {low:g}; a log scale needs a positive start")


def _shown(written: Any) -> str:
    return f"{written} " if isinstance(written, str) else f"{written!r} "


def of_space(space: Mapping[str, Any], overrides: Sequence[str]) -> list[tuple[str, Override]]:
    """Those of a command line's overrides that say something of the space: sweeps, and values for its keys."""
    when = space.get("when")
    inner = [keys for keys in when.values() if isinstance(keys, Mapping)] if isinstance(when, Mapping) else []
    keys = {str(key) for node in (space, *inner) for key in node} - {"when"}
    parsed = [(text, OverridesParser.create().parse_override(text)) for text in overrides]
    return [(text, o) for text, o in parsed if o.is_sweep_override() or (o.key_or_group in keys and not o.is_delete())]
