"""What a file's columns hold, how each is best treated, and why: the judgement behind `alphard new`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alphard.data import columns, leaks
from alphard.data.table import Array

Treatment = Literal["numeric", "categorical", "drop"]
Verdict = tuple[Treatment, str]

CODES = 5  # whole numbers of at most so many values are taken for codes
COVERED = 0.2  # of the rows; where the most frequent categories cover less, a column teaches next to nothing
LEAK = 0.97  # of the errors; iris' petals alone avoid 0.93
MOST = 0.95  # of a sample's values
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ]+\d{1,2}:\d{2}.*)?")
DATES = "dates; derive numbers from them, as a year or the days since"
REASONS = {
    "constant": "one value in all training rows",
    "double": "repeats {} in all training rows",
    "unnamed": "has no name in the header, as a saved index",
    "name": "{}, so it looks like a name",
    "key": "another whole number in every row, so it looks like a key",
}


@dataclass
class Column:
    """A column's treatment and the reason.

    values:  how many different ones.
    missing: share of the rows, in [0, 1].
    doubt:   what its owner should look at, or nothing.
    """

    name: str
    treatment: Treatment
    reason: str
    values: int
    missing: float
    doubt: str = ""

    def leave_out(self, reason: str, doubt: str = "") -> None:
        """Drop it, for another reason than its own values."""
        self.treatment, self.reason, self.doubt = "drop", reason, doubt


def look(frame: pd.DataFrame, target: str, max_categories: int) -> list[Column]:
    """Each column but the target, judged by its own values."""
    found = []
    for name in map(str, frame):
        if name == target:
            continue
        column = frame[name]
        # Lists cannot be counted.
        values = 0 if columns.is_nested(column) else column.nunique()
        treatment, reason = _judge(column, values, max_categories)
        one = Column(name, treatment, reason, values, float(column.isna().mean()))
        one.doubt = _doubt(column, one)
        found.append(one)
    return found


def leave_out_leaks(found: Sequence[Column], frame: pd.DataFrame, target: str, y: Array, classes: int) -> None:
    """Drop the columns that say the target by another name, or tell it almost without an error."""
    rows = leaks.sample(len(frame))
    some, labels = frame.iloc[rows], y[rows]
    for one in found:
        if one.treatment == "drop":
            continue
        if one.values <= classes and leaks.is_double(frame[one.name], y, classes):
            one.leave_out(f"{target} by another name, value for value", "says the target by another name")
        elif (share := leaks.told_by(some[one.name], labels, classes)) >= LEAK:
            said = f"alone avoids {_floor(share)} of the errors on held-out rows"
            remedy = f"if it is known before {target} is, move it up"
            one.leave_out(f"{said}, as what is written down after the fact; {remedy}", f"{said}; {remedy}")


def leave_out_faults(found: Sequence[Column], train: pd.DataFrame) -> None:
    """Drop what training would warn of or refuse in its rows."""
    for one in found:
        if one.treatment != "drop" and train[one.name].isna().all():
            one.leave_out("empty in all training rows")
    kept = {kind: [one.name for one in found if one.treatment == kind] for kind in ("numeric", "categorical")}
    faults = columns.faults(train, kept["numeric"], kept["categorical"])
    for one in found:
        if one.name in faults:
            kind, detail = faults[one.name]
            one.leave_out(REASONS[kind].format(detail))


def may_be_targets(frame: pd.DataFrame) -> Iterator[str]:
    """The columns without gaps that hold few values, those named like a target and the last one first."""
    few = [str(name) for name in frame if not columns.is_nested(frame[name]) and not frame[name].isna().any()]
    few = [name for name in few if 2 <= frame[name].nunique() <= min(20, len(frame) // 2)]
    named = re.compile(r"(?i)(target|label|class|outcome|y|survived|churn(ed)?|species|default(ed)?|fraud)")
    first = [name for name in few if named.fullmatch(name)]
    first += [name for name in few[-1:] if name == frame.columns[-1] and name not in first]
    yield from (first + [name for name in few if name not in first])[:6]


def is_decimal_comma(frame: pd.DataFrame) -> bool:
    """Whether a column of text holds numbers as 1,5 and nothing else."""
    number = re.compile(r"[-+]?\d+(,\d+)?")
    for name in frame:
        if frame[name].dtype.kind == "O":
            texts = _sample(frame[name])
            if texts and all(map(number.fullmatch, texts)) and any("," in text for text in texts):
                return True
    return False


def _judge(column: Any, values: int, max_categories: int) -> Verdict:
    reason = _of_no_use(column, values)
    if reason:
        return "drop", reason
    if column.dtype.kind in "iuf":
        return _judge_numbers(column, values)
    if column.dtype.kind == "b":
        return "categorical", "true or false"
    return _judge_text(column, values, max_categories)


def _of_no_use(column: Any, values: int) -> str:
    """Why a column of any kind is dropped, or nothing."""
    reasons = {
        "empty": not column.count(),
        "lists or structs; derive numbers or text from them": columns.is_nested(column),
        DATES: columns.is_date(column),
        "one value in all rows": values == 1 and not column.isna().any(),
        "counts the rows, as pandas saves an index": columns.counts_rows(column),
    }
    return next((reason for reason, so in reasons.items() if so), "")


def _judge_numbers(column: Any, values: int) -> Verdict:
    known = column.dropna()
    if float(known.abs().max()) > np.finfo(np.float32).max:
        return "drop", "holds infinity or what is beyond 3.4e38; leave such cells empty"
    # A column of whole numbers with a gap is read as floats.
    if column.dtype.kind == "f" and not (known % 1 == 0).all():
        return "numeric", "numbers"
    if values == len(known) >= columns.FEW:
        return "drop", "another whole number in every row, as a key"
    if _are_days(known):
        return "drop", "dates as whole numbers; derive numbers, as a year or days since"
    if values <= CODES:
        return "categorical", "whole numbers of few values, as codes; under numeric, if their distances count"
    return "numeric", "whole numbers"


def _judge_text(column: Any, values: int, max_categories: int) -> Verdict:
    texts, count = _sample(column), int(column.count())
    length = float(np.mean([len(text) for text in texts]))
    words = float(np.mean([text.count(" ") + 1 for text in texts]))
    most = int(column.value_counts().iloc[: max_categories - 1].sum()) / count
    reasons = {
        DATES: np.mean([bool(DATE.fullmatch(text.strip())) for text in texts]) >= MOST,
        "free text; derive numbers or categories from it": values > max_categories and words >= 5 and length >= 25,
        "another text in every row that has one, as a key or a name": values == count > 1,
        f"{values:,} values in {count:,} rows that have one, as a name": values > 0.5 * count,
        f"the {max_categories - 1} most frequent values cover {most:.1%} of the rows": most < COVERED,
    }
    for reason, so in reasons.items():
        if so:
            return "drop", reason
    rest = f"; all but the {max_categories - 1} most frequent share one category"
    return "categorical", "text" + rest * (values > max_categories)


def _doubt(column: Any, one: Column) -> str:
    """What a treatment by kind may have missed."""
    if one.reason.startswith(("dates", "free text", "holds infinity")):
        return one.reason
    if column.dtype.kind != "O" or not one.values or one.reason.startswith("true"):
        return ""
    texts = _sample(column)
    if {*texts} <= {"True", "False"}:
        return ""
    strange = pd.Series(texts)[pd.to_numeric(pd.Series(texts), errors="coerce").isna()]
    if len(strange) <= 0.2 * len(texts):
        but = f", but {strange.iloc[0]!r} is none" if len(strange) else ""
        return f"numbers as text{but}; with such cells empty it is numeric"
    return ""


def _are_days(known: Any) -> bool:
    sample = known.iloc[columns.spread(len(known))]
    if not sample.between(19000101, 21001231).all():
        return False
    days = pd.to_datetime(sample.astype("int64").astype(str), format="%Y%m%d", errors="coerce")
    return bool(days.notna().mean() >= MOST)


def _sample(column: Any) -> list[str]:
    known = column.dropna()
    return [str(value) for value in known.iloc[columns.spread(len(known))]] if len(known) else []


def _floor(share: float) -> str:
    return f"{int(share * 1000) / 10:g} %"
