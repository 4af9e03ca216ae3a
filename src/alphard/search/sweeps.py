"""One of Hydra's sweeps, as it is written or parsed, as a dimension; ValueError says what is wrong with it."""

import math
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep

from alphard import literals
from alphard.search.space import FORMS, Categorical, Continuous, Dimension, Integer, parse


def sweep(key: str, written: Any) -> Any:
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


def dimension(key: str, sweep: Any) -> Dimension:
    """What a sweep ranges over, as Hydra parsed it."""
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
        must_be_positive(low)
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
        must_be_positive(low)
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
    return value.text if isinstance(value, QuotedString) else literals.plain(value)


def must_be_positive(low: float, why: str = "") -> None:
    """Raise ValueError where a log scale would begin at zero or below."""
    if low <= 0:
        raise ValueError(f"starts at {low:g}{why}; a log scale needs a positive start")
