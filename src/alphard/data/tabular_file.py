"""One CSV or Parquet file with a target column."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from alphard.check import nearest
from alphard.data import columns, preprocessing
from alphard.data.module import SplitData
from alphard.data.reading import read
from alphard.data.table import Array, Splits, Table, at_least_two, labels
from alphard.errors import UserError


@dataclass(eq=False, kw_only=True)
class Csv(SplitData):
    """Rows of one CSV or Parquet file; preprocessing is fitted on the training rows only.

    path:    local path or URL; Parquet by its ending (.parquet, .pq) or its first bytes, else CSV, also compressed
        (.gz, .zip, .xz).
    target:  the column to predict.
    drop:    columns not to learn from, named below or not.
    numeric, categorical: columns by name; None finds them by type, text and true/false being categorical.
        With one of them given, the other takes what is left.
    separator, decimal, encoding: of a CSV file.
    max_categories: of a categorical column; the rarest beyond them share one.
    """

    path: str
    target: str
    drop: list[str] = field(default_factory=list)
    numeric: list[str] | None = None
    categorical: list[str] | None = None
    max_categories: Annotated[int, Ge(2)] = 50
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"

    def load(self) -> Splits:
        """Read the file, split its rows, fit the preprocessing."""
        frame = read(self.path, self.separator, self.decimal, self.encoding)
        y, names = self.classes_of(frame)
        numeric, categorical = self._columns(frame)
        parts = self.divide(y, names)
        train = frame.iloc[parts[0]]
        empty = [name for name in (*numeric, *categorical) if train[name].isna().all()]
        if empty:
            raise UserError(f"data.path: {', '.join(empty)} without any value in the training rows; add to data.drop")
        at_least_two(np.array(names)[np.unique(y[parts[0]])], "data.target")
        fitted = preprocessing.fit(preprocessing.build(numeric, categorical, self.max_categories), train, "data.path")
        columns.warn_of(train, numeric, categorical, self.drop)
        tables = [Table(preprocessing.transform(fitted, frame.iloc[p], "data.path"), y[p]) for p in parts]
        features = [str(name) for name in fitted.get_feature_names_out()]
        return Splits.of(tables, features, names, fitted)

    def classes_of(self, frame: Any) -> tuple[Array, list[str]]:
        """Each row's class, counted from 0, and the classes' names; UserError for a target that has no classes."""
        self._must_have(frame, "data.target", [self.target])
        column = frame[self.target]
        gaps = int(column.isna().sum())
        if gaps:
            raise UserError(f"data.target: {self.target} is missing in {gaps} of {len(frame)} rows; drop those rows")
        if columns.is_nested(column):
            raise UserError(f"data.target: {self.target} holds lists or structs; name a column of classes")
        values = column.to_numpy()
        if values.dtype.kind in "biuf":
            values = labels(values, len(values), f"data.target: {self.target}")
        else:
            values = column.astype(str).to_numpy(dtype=str)
        classes, y = np.unique(values, return_inverse=True)
        at_least_two(classes, "data.target")
        if len(classes) > max(50, len(frame) // 10) or len(classes) > max(10, len(frame) // 2):
            counted = f"{len(classes):,} different values in {len(frame):,} rows"
            raise UserError(
                f"data.target: {self.target} has {counted}; labels are classes, not measurements or names; take another"
            )
        return y.astype(np.int64), [str(c) for c in classes]

    def _columns(self, frame: Any) -> tuple[list[str], list[str]]:
        """Which columns are numbers and which are categories, in the file's order."""
        for at, names in (("drop", self.drop), ("numeric", self.numeric), ("categorical", self.categorical)):
            self._must_have(frame, f"data.{at}", names or [])
            if at != "drop" and self.target in (names or []):
                raise UserError(f"data.{at}: {self.target} is data.target, which is not there to learn from")
        twice = sorted(set(self.numeric or []) & set(self.categorical or []))
        if twice:
            raise UserError(f"data.numeric: {', '.join(twice)} also in data.categorical; name each column once")
        asked = {self.target, *self.drop, *(self.numeric or []), *(self.categorical or [])}
        left = [name for name in frame.columns if name != self.target and name not in self.drop]
        if self.numeric is None or self.categorical is None:
            indices = columns.saved_indices(frame, asked)
            left = [name for name in left if name not in indices]
        if not left and not self.drop:
            raise UserError(
                f"data.path: {self.path} has no column but {self.target}, the target; nothing is left to learn from"
            )
        numeric, categorical = self._kinds(frame, left)
        if not numeric and not categorical:
            raise UserError("data.path: no column is left to learn from; shorten data.drop")
        nested = ", ".join(name for name in (*numeric, *categorical) if columns.is_nested(frame[name]))
        if nested:
            raise UserError(
                f"data.path: {nested} holds lists or structs; derive numbers or text from them, or add to data.drop"
            )
        return numeric, categorical

    def _kinds(self, frame: Any, left: list[str]) -> tuple[list[str], list[str]]:
        """Numbers and categories among the columns `left`, as named or else by type."""
        if self.numeric is not None:
            numeric = [name for name in left if name in self.numeric]
        elif self.categorical is not None:
            numeric = [name for name in left if name not in self.categorical]
        else:
            numeric = [name for name in left if frame[name].dtype.kind in "iuf"]
        categorical = [name for name in left if name not in numeric]
        if self.categorical is not None:
            categorical = [name for name in categorical if name in self.categorical]
        elif self.numeric is None:
            dates = ", ".join(name for name in categorical if columns.is_date(frame[name]))
            if dates:
                raise UserError(f"data.path: {dates} of dates; derive numbers from them, or add to data.drop")
        return numeric, categorical

    @staticmethod
    def _must_have(frame: Any, at: str, names: Sequence[str]) -> None:
        present = list(frame.columns)
        for name in names:
            if name not in present:
                near = nearest(name, present) or "."
                raise UserError(f"{at}: no column {name}{near} The columns are {', '.join(present)}")
