"""Sources of ready numbers: built-in sets, npz files, made data."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from annotated_types import Ge

from alphard import storage
from alphard.data.module import SplitData, TableData
from alphard.data.table import Array, Splits, Table, at_least_two, encode, features, labels
from alphard.errors import UserError
from alphard.types import Count, NonNegative

NAMES = ("classes", "feature_names")


@dataclass(eq=False, kw_only=True)
class BuiltIn(SplitData):
    """A table that ships with scikit-learn, standardised by its training rows.

    name: digits (1,797 rows, 64 features, 10 classes) or breast_cancer (569 rows, 30 features, 2 classes).
    """

    name: Literal["digits", "breast_cancer"] = field()  # without field(), Lightning's own `name` would be a default

    def load(self) -> Splits:
        """Read the table from scikit-learn's own files."""
        from sklearn import datasets
        from sklearn.preprocessing import StandardScaler

        bunch = getattr(datasets, f"load_{self.name}")()
        parts = self.divide(bunch.target, [str(name) for name in bunch.target_names])
        scaler = StandardScaler().fit(bunch.data[parts[0]])
        tables = [
            Table(scaler.transform(bunch.data[p]).astype(np.float32), bunch.target[p].astype(np.int64)) for p in parts
        ]
        return Splits.of(tables, list(map(str, bunch.feature_names)), list(map(str, bunch.target_names)), scaler)


@dataclass(eq=False, kw_only=True)
class Synthetic(SplitData):
    """Made rows: X standard normal, y the argmax of a random linear teacher's scores.

    noise: standard deviation of what is added to the scores, which have 1.
    """

    rows: Count = 20_000
    features: Count = 64
    classes: Annotated[int, Ge(2)] = 10
    noise: NonNegative = 0.1

    def load(self) -> Splits:
        """Draw teacher and rows from `split_seed`."""
        random = np.random.default_rng(self.split_seed)
        X = random.standard_normal((self.rows, self.features), dtype=np.float32)
        teacher = random.standard_normal((self.features, self.classes), dtype=np.float32) / np.sqrt(self.features)
        scores = X @ teacher.astype(np.float32)
        scores += np.float32(self.noise) * random.standard_normal(scores.shape, dtype=np.float32)
        y = scores.argmax(axis=1)
        tables = [Table(X[rows], y[rows]) for rows in self.divide(y)]
        names = [f"x{i}" for i in range(self.features)]
        return Splits.of(tables, names, [str(c) for c in range(self.classes)])


@dataclass(eq=False, kw_only=True)
class Npz(TableData):
    """Arrays split already: X_train, y_train in one file, X_val, y_val in another, perhaps X_test, y_test in a third.

    Labels are numbered in the order of the training rows' classes; or they are numbers already, if the first file has
    an array `classes` of their names.  An array `feature_names` there names the features.

    train, validation, test: local paths or URLs.  Read without pickle.
    preprocessing:           the transformer that made X, by path or URL, which the run keeps for `alphard predict`.
    """

    train: str
    validation: str
    test: str | None = None
    preprocessing: str | None = None

    def load(self) -> Splits:
        """Read and judge the arrays."""
        X, y, told = self._read(self.train, "train", "data.train")
        width = X.shape[1]
        names = _names(told, "feature_names", width, "data.train")
        named = _names(told, "classes", None, "data.train")
        classes = np.unique(y) if named is None else np.arange(len(named))
        if named is not None and (y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(named)):
            numbers = f"whole numbers from 0 to {len(named) - 1}, each the place of a name"
            raise UserError(f"data.train: y_train does not fit the array classes; give {numbers}, or leave classes out")
        at_least_two(classes, "data.train")
        tables = [Table(X, encode(y, classes, "data.train"))]
        for path, suffix, at in ((self.validation, "val", "data.validation"), (self.test, "test", "data.test")):
            if path is None:
                continue
            X, y, _ = self._read(path, suffix, at)
            if X.shape[1] != width:
                raise UserError(f"{at}: X has {X.shape[1]} features and the training rows {width}")
            if (y.dtype.kind in "US") != (classes.dtype.kind in "US"):
                raise UserError(f"{at}: y holds {y.dtype} and the training rows' y {classes.dtype}; give one kind")
            tables.append(Table(X, encode(y, classes, at)))
        fitted = None
        if self.preprocessing:
            from alphard.data import preprocessing

            fitted = preprocessing.read(self.preprocessing, width, "data.preprocessing")
        called = [str(c) for c in classes] if named is None else named
        return Splits.of(tables, names or [f"x{i}" for i in range(width)], called, fitted)

    @staticmethod
    def _read(path: str, suffix: str, at: str) -> tuple[Array, Array, dict[str, Any]]:
        """X, y, and the arrays that name what they hold, where there are such."""
        with storage.reading(path, at) as file, _npz_errors(path, at):
            _must_be_zip(file, path, at)
            with np.load(file, allow_pickle=False) as arrays:
                for name in (f"X_{suffix}", f"y_{suffix}"):
                    if name not in arrays:
                        raise UserError(f"{at}: {path} has no array {name}; it has {', '.join(arrays.files) or 'none'}")
                X, y = arrays[f"X_{suffix}"], arrays[f"y_{suffix}"]
                told = {name: arrays[name] for name in NAMES if name in arrays}
                if not (isinstance(X, np.ndarray) and isinstance(y, np.ndarray)):
                    raise UserError(f"{at}: {path} holds files that are no arrays; save arrays with numpy.savez")
        X = features(X, at)
        return X, labels(y, len(X), at), told


def _names(told: Mapping[str, Any], name: str, count: int | None, at: str) -> list[str] | None:
    """The texts of an array of names, or None where there is none."""
    if name not in told:
        return None
    found = told[name]
    if not isinstance(found, np.ndarray) or found.dtype.kind != "U" or found.ndim != 1:
        raise UserError(f"{at}: the array {name} holds no texts; give one for each, or leave it out")
    if len({*found}) < len(found) or count not in (None, len(found)):
        wanted = f"{count} names" if count else "names"
        raise UserError(
            f"{at}: the array {name} has {len(found)} names; give {wanted} that all differ, or leave it out"
        )
    return [str(one) for one in found]


def ready(path: str, at: str) -> Array:
    """X (N, F) float32 of an npz file: its array X, or the only one whose name begins with X_."""
    with storage.reading(path, at) as file, _npz_errors(path, at):
        _must_be_zip(file, path, at)
        with np.load(file, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name == "X"] or [n for n in arrays.files if n.startswith("X_")]
            if len(names) != 1:
                raise UserError(f"{at}: {path} needs one array X; it has {', '.join(arrays.files) or 'none'}")
            X = arrays[names[0]]
    return features(np.asarray(X), f"{at}: {path}")


def _must_be_zip(file: BinaryIO, path: str, at: str) -> None:
    """numpy calls whatever is no npz file pickled; say what it is instead."""
    start = file.read(2)
    file.seek(0)
    if not start:
        raise UserError(f"{at}: {path} is empty")
    if start[:1] == b"\x80":
        raise UserError(f"{at}: {path} is a pickle, which could run code; save arrays with numpy.savez")
    if start != b"PK":
        raise UserError(f"{at}: {path} is not an npz file; save named arrays with numpy.savez")


@contextlib.contextmanager
def _npz_errors(path: str, at: str) -> Iterator[None]:
    """The many ways of saying that a file is torn, as one."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # numpy's, zipfile's, zlib's and a bucket's client's own
        if "Object arrays" in str(error):
            raise UserError(
                f"{at}: {path} holds pickled objects, which could run code; save plain numeric arrays"
            ) from None
        raise UserError(f"{at}: {path} is not a whole npz file: {str(error) or type(error).__name__}") from None
