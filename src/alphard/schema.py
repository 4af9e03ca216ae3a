"""A config node against a dataclass: its fields are the keys, their annotations the values."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from alphard.check import judge, nearest
from alphard.errors import UserError

T = TypeVar("T")


def read(schema: type[T], node: Mapping[str, Any], at: str, what: str) -> T:
    """The dataclass that a resolved node fills; UserError with every problem.

    at:   the node's config path; empty for a config's root.
    what: whose settings they are, as in "a search".
    """
    problems: list[str] = []
    found = _bind(schema, node, at, what, problems)
    if found is None:
        raise UserError(*problems)
    return found


def once(keys: Sequence[str]) -> None:
    """Raise UserError where a line gives a key twice: the one that does not count may be the one that was meant."""
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UserError(*(f"{key}: is given twice; give it once" for key in twice))


def _bind(schema: type[T], node: Mapping[str, Any], at: str, what: str, problems: list[str]) -> T | None:
    hints = typing.get_type_hints(schema, include_extras=True)
    values: dict[str, Any] = {}
    before = len(problems)
    for name, value in node.items():
        path = f"{at}.{name}" if at else str(name)
        if name not in hints:
            problems.append(f"{path}: {what} has no such setting{nearest(name, hints)}")
        elif dataclasses.is_dataclass(hints[name]):
            if isinstance(value, Mapping):
                values[name] = _bind(hints[name], value, path, what, problems)
            else:
                first, *_ = names = [field.name for field in dataclasses.fields(hints[name])]
                one = f"{path}.{first}={value}" if isinstance(value, str) else f"{{{', '.join(names)}}}"
                problems.append(f"{path}: {value!r}: is no {{key: value}}; give {one}")
        else:
            problem, values[name] = judge(hints[name], value)
            if problem:
                problems.append(f"{path}{problem}")
    for name in _needed(schema):
        if name not in node:
            path = f"{at}.{name}" if at else name
            problems.append(f"{path}: is missing; give {path}=…")
    return None if len(problems) > before else schema(**values)


def _needed(schema: Any) -> Iterator[str]:
    missing = dataclasses.MISSING
    return (f.name for f in dataclasses.fields(schema) if f.default is missing and f.default_factory is missing)
