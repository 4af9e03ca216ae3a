"""Rows and labels, judged and split.  Shapes: N rows, F features, C classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphard.errors import UserError

Array = NDArray[Any]
NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
CHUNK = 1 << 22  # values looked at in one go, so that judging 1 GB needs no second GB


@dataclass
class Table:
    """X (N, F) float32 and y (N,) int64 in [0, C)."""

    X: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass
class Splits:
    """What a source loads: rows to fit, rows to choose by, and rows that stay sealed.

    preprocessing: the fitted scikit-learn transformer from a user's rows to X, saved with the model.
    """

    train: Table
    validation: Table
    test: Table | None
    feature_names: list[str]
    classes: list[str]
    preprocessing: Any = None

    @classmethod
    def of(
        cls, tables: Sequence[Table], feature_names: list[str], classes: list[str], preprocessing: Any = None
    ) -> "Splits":
        """From training, validation and perhaps test rows, in this order."""
        test = tables[2] if len(tables) > 2 else None
        return cls(tables[0], tables[1], test, feature_names, classes, preprocessing)


def features(X: Array, at: str) -> Array:
    """X as contiguous float32 (N, F), or UserError at config path `at`."""
    if X.ndim != 2:
        raise UserError(f"{at}: X has {X.ndim} dimensions, {X.shape}; give rows and features, (N, F)")
    if X.dtype.kind not in "biuf":
        raise UserError(f"{at}: X holds {X.dtype}; give numbers")
    if 0 in X.shape:
        raise UserError(f"{at}: X is empty, {X.shape}; give at least one row and one feature")
    given = X
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named below
        X = np.ascontiguousarray(given, dtype=np.float32)
    flat = X.reshape(-1)
    for start in range(0, len(flat), CHUNK):
        finite = np.isfinite(flat[start : start + CHUNK])
        if not finite.all():
            row, column = divmod(start + int(np.argmin(finite)), X.shape[1])
            raise UserError(
                f"{at}: X[{row}, {column}] is {given[row, column]}; impute or drop what is missing or no float32"
            )
    return X


def labels(y: Array, rows: int, at: str) -> Array:
    """y as (N,) of whole numbers or text, or UserError at config path `at`."""
    if y.ndim != 1:
        raise UserError(f"{at}: y has {y.ndim} dimensions, {y.shape}; give one label a row, (N,)")
    if len(y) != rows:
        raise UserError(f"{at}: X has {rows} rows and y {len(y)}; give one label a row")
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise UserError(f"{at}: y[{int(np.argmin(np.isfinite(y)))}] is not finite; drop the rows without a label")
        measured = (y != np.round(y)) | (np.abs(y) > 2**53)
        if measured.any():
            raise UserError(f"{at}: y holds {y[np.argmax(measured)]}; labels are classes, not measurements")
        return y.astype(np.int64)
    if y.dtype.kind not in "biuUS":
        raise UserError(f"{at}: y holds {y.dtype}; give whole numbers or text")
    if y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
        raise UserError(f"{at}: y holds {y.max()}, which is beyond int64; number the classes")
    if y.dtype.kind == "S":
        return _decoded(y, at)
    return y.astype(np.int64) if y.dtype.kind == "u" else y  # numpy compares int64 with uint64 as floats


def _decoded(y: Array, at: str) -> Array:
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:  # a replacement sign would make one class of several
        row = int(np.argmax(y == error.object))
        raise UserError(f"{at}: y[{row}] is {error.object!r}, which is no UTF-8; save the labels as text") from None


def judged(splits: object, at: str) -> Splits:
    """What somebody's `load` returned, with X float32 and y int64 in [0, C), or UserError that begins with `at`."""
    if not isinstance(splits, Splits):
        raise UserError(f"{at} returned {type(splits).__name__}; return alphard.data.Splits")
    if isinstance(splits.classes, str) or not np.iterable(splits.classes):
        raise UserError(f"{at}: classes is {splits.classes!r}; give their names, one for each label 0, 1, …")
    names = [str(name) for name in splits.classes]
    _must_be_text(names, f"{at}: classes")
    _must_be_text([str(name) for name in splits.feature_names], f"{at}: feature_names")
    train = _judged(splits.train, len(names), f"{at}: train")
    validation = _judged(splits.validation, len(names), f"{at}: validation")
    test = None if splits.test is None else _judged(splits.test, len(names), f"{at}: test")
    for table, name in ((validation, "validation"), (test, "test")):
        if table and table.X.shape[1] != train.X.shape[1]:
            raise UserError(f"{at}: {name}: X has {table.X.shape[1]} features and the training rows {train.X.shape[1]}")
    at_least_two(np.array(names)[np.unique(train.y)], f"{at}: train")
    return replace(splits, train=train, validation=validation, test=test, classes=names)


def _must_be_text(names: Sequence[str], at: str) -> None:
    """Raise UserError for a name that no file and no drawing can hold."""
    strange = next((name for name in names if NO_TEXT.search(name)), None)
    if strange is not None:
        raise UserError(f"{at}: {strange!a} holds a NUL, or half a character; rename it")


def _judged(table: object, classes: int, at: str) -> Table:
    if not isinstance(table, Table):
        raise UserError(f"{at} is {type(table).__name__}; give alphard.data.Table(X, y)")
    try:
        X, y = np.asarray(table.X), np.asarray(table.y)
    except (ValueError, TypeError) as error:  # ragged lists, tensors on another device
        raise UserError(f"{at}: {error}") from None
    X = features(X, at)
    y = labels(y, len(X), at)
    strange = None if y.dtype.kind == "U" else y[(y < 0) | (y >= classes)]
    if strange is None or len(strange):
        found = "text" if strange is None else strange[0]
        raise UserError(f"{at}: y holds {found}; number the {classes} classes from 0 to {classes - 1}")
    return Table(X, np.ascontiguousarray(y, dtype=np.int64))


def encode(y: Array, classes: Array, at: str) -> Array:
    """Each label's place in `classes`, which is sorted; a label that is not among them is an error."""
    places = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    strange = classes[places] != y
    if strange.any():
        raise UserError(
            f"{at}: label {y[np.argmax(strange)]!s} never occurs in the training rows; the model cannot say it"
        )
    return places.astype(np.int64)


def at_least_two(classes: Array, at: str) -> None:
    """Raise UserError where there is nothing to tell apart."""
    if len(classes) < 2:
        raise UserError(f"{at}: only one class, {classes[0]!s}, in the training rows; there is nothing to learn")


def part_of(y: Array, fraction: float, seed: int) -> Array:
    """Row numbers of a `fraction` of each class, to the nearest row and at least one; a larger one holds a smaller."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    of_classes = (shuffled[y[shuffled] == label] for label in np.unique(y))
    return np.sort(np.concatenate([rows[: max(1, round(fraction * len(rows)))] for rows in of_classes]))


def stratified(y: Array, shares: Mapping[str, float], seed: int, classes: Sequence[str] | None = None) -> list[Array]:
    """Row numbers of what is left over, then of as many parts as `shares`, each with the classes in their proportion.

    shares:  by their config paths, of all rows, in [0, 1), in all less than 1.  A share of 0 gives no rows.
    classes: what errors call the labels 0, 1, …
    """
    from sklearn.model_selection import train_test_split

    rest, parts = np.arange(len(y)), []
    for at, share in shares.items():
        size = round(share * len(y))
        if not size:
            parts.append(rest[:0])
            continue
        found, counts = np.unique(y[rest], return_counts=True)
        if counts.min() < 2:
            raise UserError(f"{at}: {_rare(y, found[counts < 2], classes)}")
        few, remedy = (size, "take more") if size < len(found) else (len(rest) - size, "take less")
        if few < len(found):
            leaves = "is" if remedy == "take more" else "leaves"
            text = f"{share} of {len(y)} rows {leaves} {few}, fewer than the {len(found)} classes"
            raise UserError(f"{at}: {text}; {remedy}, or merge classes")
        rest, part = train_test_split(rest, test_size=size, random_state=seed, stratify=y[rest])
        parts.append(np.sort(part))
    return [np.sort(rest), *parts]


def _rare(y: Array, labels: Array, classes: Sequence[str] | None) -> str:
    """Which classes are too small for a split, with how many rows of all."""
    name, rows = (classes[labels[0]] if classes else labels[0]), int(np.sum(y == labels[0]))
    others = len(labels) - 1
    more = f", and {others} more {'classes' if others > 1 else 'class'} likewise" if others else ""
    remedy = "drop such rows, merge classes, or take another target"
    return f"class {name} has only {rows} row{'s' * (rows > 1)}{more}, too few for every split; {remedy}"
