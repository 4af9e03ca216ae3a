"""How far chance alone may move a score."""

import math


def binomial_error(value: float, rows: int | None, metric: str) -> float | None:
    """The standard error of an accuracy over `rows` rows, sqrt(p (1 - p) / rows); None for another kind of metric.

    A balanced accuracy is no share of rows: its error hangs on the smallest class.
    """
    if not metric.endswith("accuracy") or "balanced" in metric or not rows or not 0 <= value <= 1:
        return None
    return math.sqrt(value * (1 - value) / rows)


def rows_line(split: str, rows: int, value: float, metric: str) -> str:
    """How many rows a split has, and how far their noise may move `value` if that is an accuracy."""
    noise = binomial_error(value, rows, metric)
    return f"{split} rows: {rows}" + ("" if noise is None else f", so a binomial standard error of {noise:.6f}")
