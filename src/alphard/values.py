"""A value against an annotation: strict, but for an integral float where an int is meant (cloud tuners send 64.0)."""

import math
import typing
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from alphard.errors import masked

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def judge(annotation: Any, value: Any) -> tuple[str, Any]:
    """What is wrong with `value`, or an empty text; and the value, with 64.0 as 64 where no float is allowed.

    The problem begins where it stands in the value, as in `[1]: [8, 0.5]: should be a valid integer`.
    """
    adapter = _adapter(annotation)
    problem = _problem(adapter, value) if adapter else None
    if adapter is None or problem is None or _problem(adapter, _tuples(value)) is None:
        return "", value
    integral = _integral(value)
    if _problem(adapter, integral) is None or _problem(adapter, _tuples(integral)) is None:
        return "", integral
    place, message = problem
    return f"{place}: {show(value)}: {message}", value


def hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what `target` takes."""
    signed = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009  mypy mistrusts .__init__
    try:
        return typing.get_type_hints(signed, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # a library's annotation that names what only a type checker imports


def show(value: object) -> str:
    """A value in an error, not longer than a line."""
    text = masked(repr(value))  # before it is cut
    return text if len(text) <= 80 else f"{text[:77]}…"


def _problem(adapter: TypeAdapter[Any], value: Any) -> tuple[str, str] | None:
    """Where in the value, and what is wrong with it; None where nothing is.  What pydantic made of it is discarded."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        messages = list(dict.fromkeys(e["msg"].removeprefix("Input ") for e in error.errors()))
        place = "".join(f"[{step}]" for step in error.errors()[0]["loc"] if isinstance(step, int))
        return place, " or ".join(messages)
    return None


def _integral(value: Any) -> Any:
    """64.0 -> 64, also inside lists; anything else stays."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return [_integral(item) for item in value] if isinstance(value, list) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation, config=STRICT)
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type that brings its own configuration
        return TypeAdapter(annotation)
