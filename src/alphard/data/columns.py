"""What a frame's columns hold, and which of them teach nothing.

Each kind of warning is one line that ends with the `data.drop` to copy.  Most columns are told apart by a thousand
rows, so that a million cost little.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

Column = Any  # pandas.Series
SAMPLE = 1000  # rows
FEW = 20  # in fewer rows than these, whole numbers that all differ are nothing to speak of


def is_date(column: Column) -> bool:
    """Whether dates, times of a day with a date, or spans of time; Parquet's days come as Python's own dates."""
    return column.dtype.kind in "mM" or (column.dtype == object and _kind(column) in ("date", "datetime"))


def is_nested(column: Column) -> bool:
    """Whether Parquet's lists or structs."""
    first = column[column.notna()].iloc[:1] if column.dtype == object else ()
    return any(isinstance(value, (list, dict, tuple, np.ndarray)) for value in first)


def with_floats(frame: pd.DataFrame) -> pd.DataFrame:
    """Parquet's decimals as floats."""
    names = [name for name in frame if frame[name].dtype == object and _kind(frame[name]) == "decimal"]
    return frame.astype(dict.fromkeys(names, "float64"))


def counts_rows(column: Column) -> bool:
    """Whether a column without a name holds 0 to N - 1, as pandas' to_csv writes an index."""
    whole = re.match(r"Unnamed: \d", str(column.name)) and column.dtype.kind == "i"
    return bool(whole and (column == np.arange(len(column))).all())


def saved_indices(frame: pd.DataFrame, asked: Collection[str]) -> list[str]:
    """Columns that pandas' to_csv wrote beside the user's.  Warns of them."""
    found = [name for name in map(str, frame) if name not in asked and counts_rows(frame[name])]
    if found:
        _say(f"{', '.join(found)} counts the rows, as pandas saves an index; left out")
    return found


def faults(rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Which of the training rows' columns teach nothing: by name its kind, and the other column or the counts.

    Kinds: constant, double, unnamed, name, key.
    """
    sample = rows.iloc[spread(len(rows))]
    names = [name for name in rows if name in {*numeric, *categorical}]
    found = {name: ("constant", "") for name in names if _distinct(sample[name], rows[name], 1) == 1}
    found |= {name: ("double", other) for name, other in _doubles(sample, rows, [n for n in names if n not in found])}
    for name in names:
        if name in found:
            continue
        if name.startswith("Unnamed: "):
            found[name] = "unnamed", ""
        elif name in categorical and _names(sample[name]) and _names(rows[name]):
            found[name] = "name", f"{rows[name].nunique()} values in {len(rows)} rows"
        elif rows[name].dtype.kind in "iu" and len(rows) >= FEW and sample[name].is_unique and rows[name].is_unique:
            found[name] = "key", ""
    return found


def warn_of(rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str], dropped: Sequence[str]) -> None:
    """Say which of the training rows' columns hold one value, repeat others, or look like an index, a key or a name."""

    def remedy(*names: str) -> str:
        all_of_them = ",".join(name if re.fullmatch(r"[\w.-]+", name) else repr(name) for name in (*dropped, *names))
        return f"data.drop=[{all_of_them}] leaves {'it' if len(names) == 1 else 'them'} out"

    found = faults(rows, numeric, categorical)
    constant = [name for name, (kind, _) in found.items() if kind == "constant"]
    if constant:
        s, verb = ("s", "hold") if len(constant) > 1 else ("", "holds")
        _say(f"column{s} {', '.join(constant)} {verb} one value in all training rows; {remedy(*constant)}")
    doubles = {name: other for name, (kind, other) in found.items() if kind == "double"}
    if doubles:
        pairs = ", ".join(f"{name} ({other})" for name, other in doubles.items())
        _say(f"columns that repeat others in all training rows: {pairs}; {remedy(*doubles)}")
    for name, (kind, counts) in found.items():
        if kind == "unnamed":
            _say(f"column {name} has no name in the header, as a saved index; {remedy(name)}")
        elif kind == "name":
            _say(f"column {name} has {counts}, so it looks like a name; {remedy(name)}")
        elif kind == "key":
            _say(f"column {name} is another whole number in every row, so it looks like a key; {remedy(name)}")


def spread(rows: int, most: int = SAMPLE) -> "np.ndarray[Any, Any]":
    """The numbers of at most `most` rows, evenly over all."""
    return np.unique(np.linspace(0, rows - 1, most).astype(int))


def _say(text: str) -> None:
    warnings.warn(f"data.path: {text}", stacklevel=3)


def _kind(column: Column) -> str:
    return str(pd.api.types.infer_dtype(column, skipna=True))


def _distinct(sample: Column, column: Column, most: int) -> int:
    """How many values a column has, a gap being one; looks no further than the sample if that has more than `most`."""
    found: int = sample.nunique(dropna=False)
    return found if found > most else column.nunique(dropna=False)


def _names(column: Column) -> bool:
    return bool(column.nunique() > 0.5 * column.count())


def _doubles(sample: pd.DataFrame, rows: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Columns that equal an earlier one in every row, and that one."""
    alike: dict[object, list[str]] = {}
    for name in names:
        values = sample[name]
        kind = values.dtype.kind
        key = kind, values.to_numpy().tobytes() if kind in "biuf" else tuple(values.astype(str))
        firsts = alike.setdefault(key, [])
        same = next((other for other in firsts if rows[other].equals(rows[name])), None)
        if same is None:
            firsts.append(name)
        else:
            yield name, same
