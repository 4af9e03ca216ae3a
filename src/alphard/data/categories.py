"""A column's values as categories: the same text, whatever type a file, or a part of it, gave them.

A column of whole numbers is read as integers; with a gap in it, as floats; with a word in it, or a chunk at a time, as
text.  `3`, `3.0` and a decimal's `3.00` are one category; and so are `true` and `TRUE`, unless training knew the text.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

Column = Any  # pandas.Series

# How pandas reads true and false; other spellings are text to it.
BOOLEANS = {text: word for word in ("True", "False") for text in (word, word.lower(), word.upper())}
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,40}\s*")
# Objects that are equal only where they are the same category; of others, True equals 1.
ALIKE = ("string", "boolean", "decimal", "date")
EXAMPLES = 3


@dataclass
class New:
    """Categories that training did not know, by column: in how many rows, and some of them."""

    rows: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, texts: Sequence[str], rows: int) -> None:
        """Count a chunk's."""
        self.rows[name] = self.rows.get(name, 0) + rows
        seen = self.examples.setdefault(name, [])
        seen += [text for text in texts if text not in seen][: EXAMPLES + 1 - len(seen)]


def of(column: Column, known: Collection[str] | None = None, decimal: str = ".", new: New | None = None) -> Column:
    """The values as text or missing, in objects even where all are missing: the encoder compares them with text.

    known:   what training knew: each text is then the category that it is, or that it would be if it had been read in
             a column of numbers, or of true and false.
    decimal: of the file that the texts come from.
    """
    codes, distinct = _coded(column)
    texts = [*map(text_of, distinct)]
    if known is not None:
        texts = _recognised(texts, known, decimal)
        strange = [at for at, text in enumerate(texts) if isinstance(text, str) and text not in known]
        if strange and new is not None:
            rows = np.bincount(codes[codes >= 0], minlength=len(texts))[strange].sum()
            new.add(str(column.name), [str(texts[at]) for at in strange], int(rows))
    found = np.empty(len(texts) + 1, dtype=object)
    found[:-1], found[-1] = texts, np.nan  # a gap's code is -1
    return pd.Series(found[codes], column.index, dtype=object, name=column.name)


def text_of(value: object) -> object:
    """3, 3.0 and a decimal's 3.00 are one category: a column of whole numbers with a gap is read as floats."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _coded(column: Column) -> tuple[Any, Any]:
    """Which of the distinct values each row has, and these: a million rows have few, and text costs."""
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) not in ALIKE:
        return np.arange(len(column)), column
    return pd.factorize(column)


def _recognised(texts: list[object], known: Collection[str], decimal: str) -> list[object]:
    """Each text that is not known as the known one that it stands for, if there is one."""
    found = [*texts]
    strange = [(at, text) for at, text in enumerate(texts) if isinstance(text, str) and text not in known]
    plain = pd.Series([text.replace(decimal, ".") for _, text in strange], dtype=object)
    for (at, text), number in zip(strange, pd.to_numeric(plain, errors="coerce"), strict=True):
        found[at] = next((form for form in _read(text, number) if form in known), text)
    return found


def _read(text: str, number: float) -> Iterator[str]:
    """What a text may have become in a column of its kind: of integers first, then of floats, which round."""
    if text in BOOLEANS:
        yield BOOLEANS[text]
    elif not np.isnan(number):
        if WHOLE.fullmatch(text):
            yield str(int(text))
        yield str(text_of(float(number)))
