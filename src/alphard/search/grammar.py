"""A search space as people write it, in Hydra's grammar, read into typed dimensions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from alphard.check import nearest
from alphard.errors import UserError
from alphard.search import sweeps
from alphard.search.settings import Settings
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
        self.unread: set[str] = set()
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
            self.dimensions[key] = replace(sweeps.dimension(key, sweeps.sweep(key, written)), when=when)
        except ValueError as error:
            self.unread.add(key)
            self.problems.append(f"{at}.{key}: {_shown(written)}: {error}")

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
                    now = sweeps.dimension(key, override.value())
                    self.dimensions[key] = now if before is None else replace(_like(now, before), when=before.when)
                elif before is not None and before.when is not None:
                    self.dimensions[key] = Categorical(key, (written,), before.when)
                else:
                    self.dimensions.pop(key, None)
                    self.fixed[key] = written
            except ValueError as error:
                self.problems.append(f"{key}: {_shown(written)}: {error}")

    def _condition(self, condition: str) -> tuple[bool, Condition | None]:
        """Whether PARENT=CHOICE can be, and the condition; None where the command line has settled that it is."""
        parent, equals, choice = condition.partition("=")
        if not equals:
            raise ValueError("a condition is written PARENT=CHOICE")
        meant, before = parse(parent, choice).value(), self.before.get(parent)
        known = before or self.dimensions.get(parent)  # or one that a command line adds
        if parent in self.unread:
            return False, None
        if known is None:
            remedy = nearest(parent, self.before) or f"; add `{parent}: choice(…)` to it"
            raise ValueError(f"{parent} is no dimension of this space{remedy}")
        if not isinstance(known, Categorical):
            raise ValueError(f"{parent} is {known}; a condition needs a choice(...)")
        if before is not None and known.text(meant) is None:
            raise ValueError(f"{parent} is {known}, and never {choice}{nearest(choice, known.choices)}")
        if parent in self.fixed:
            return bool(parse(parent, self.fixed[parent]).value() == meant), None
        now = self.dimensions[parent]
        text = now.text(meant) if isinstance(now, Categorical) else None
        return text is not None, None if text is None else Condition(parent, text)


def _like(now: Dimension, before: Dimension) -> Dimension:
    """A narrower interval keeps the scale, and the whole numbers, of what it narrows."""
    if isinstance(now, Categorical) or isinstance(before, Categorical):
        return now
    if isinstance(now, Continuous) and isinstance(before, Integer):
        if now.low % 1 or now.high % 1:
            low, high = math.ceil(now.low), max(math.ceil(now.low), math.floor(now.high))
            raise ValueError(f"the key is searched in whole numbers; give int(interval({low}, {high}))")
        now = Integer(now.key, int(now.low), int(now.high))
    if before.log and not (now.log or now.step not in (None, 1)):
        sweeps.must_be_positive(now.low, ", and the key is searched on a log scale")
        return replace(now, log=True)
    return now


def _shown(written: Any) -> str:
    return written if isinstance(written, str) else repr(written)


def keys(space: Mapping[str, Any]) -> list[str]:
    """Every key of a space as it is written, whatever a command line makes of it."""
    when = space.get("when")
    inner = [node for node in when.values() if isinstance(node, Mapping)] if isinstance(when, Mapping) else []
    return [str(key) for node in (space, *inner) for key in node if key != "when"]


def of_space(space: Mapping[str, Any], overrides: Sequence[str]) -> list[tuple[str, Override]]:
    """Those of a command line's overrides that say something of the space: sweeps, and values for its keys."""
    known = keys(space)
    parsed = [(text, OverridesParser.create().parse_override(text)) for text in overrides]
    return [(text, o) for text, o in parsed if o.is_sweep_override() or (o.key_or_group in known and not o.is_delete())]


def fitted(
    settings: Settings, space: Space, written: Mapping[str, Any], given: Sequence[tuple[str, Override]]
) -> Settings:
    """`settings` without the initial values that the command line overrules: `initial` is mostly the file's.

    space: what `given` has made of `written`.
    """
    narrowed = {override.key_or_group for _, override in given}
    gone = {key for key in keys(written) if key not in space}

    def overruled(key: str, value: Any) -> bool:
        return key in gone or (key in narrowed and key in space and not space[key].holds(value))

    kept = []
    for before in settings.initial:
        values = {key: value for key, value in before.items() if not overruled(key, value)}
        if values or not before:
            kept.append(values)
    return replace(settings, initial=kept)
