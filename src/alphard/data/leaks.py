"""Columns that tell the target by themselves.  Shapes: N rows, C classes."""

from typing import Any

import numpy as np
import pandas as pd

from alphard.data.table import Array

Column = Any  # pandas.Series
ROWS = 40_000  # looked at, in all
FOLDS = 2
TREES = 50  # classes; of more, a tree takes too long, and numbers are taken by their values


def is_double(column: Column, y: Array, classes: int) -> bool:
    """Whether each of the column's values, a gap being one, goes with one class and each class with one value."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    return len(values) == classes and len(np.unique(codes * classes + y)) == classes


def sample(rows: int) -> Array:
    """The numbers of the rows that `told_by` looks at."""
    return np.random.default_rng(0).permutation(rows)[:ROWS]


def told_by(column: Column, y: Array, classes: int) -> float:
    """Of the errors that the largest class alone makes, the share that this column alone avoids, at most 1.

    Goodman and Kruskal's lambda (1954), on rows that the rule was not made from, so that a key tells nothing.
    """
    fold = np.arange(len(y)) % FOLDS
    tree = column.dtype.kind in "iuf" and classes <= TREES
    values = column.to_numpy("float32", na_value=np.nan) if tree else pd.factorize(column, use_na_sentinel=False)[0]
    told = np.empty_like(y)
    for out in range(FOLDS):
        known, asked = fold != out, fold == out
        rule = _by_tree if tree else _by_value
        told[asked] = rule(values[known], y[known], values[asked], classes)
    wrong = len(y) - int(np.bincount(y).max())
    return 1 - float(np.sum(told != y)) / wrong if wrong else 0.0


def _by_tree(values: Array, y: Array, asked: Array, classes: int) -> Array:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=max(16, 4 * classes), min_samples_leaf=2, random_state=0)
    return np.asarray(tree.fit(values[:, None], y).predict(asked[:, None]))


def _by_value(values: Array, y: Array, asked: Array, classes: int) -> Array:
    """Each value's most frequent class; that of all rows for a value never seen."""
    pairs, counts = np.unique(values * classes + y, return_counts=True)
    pairs = pairs[np.argsort(counts, kind="stable")]  # of equal indices, numpy keeps the last
    most = np.full(max(values.max(), asked.max()) + 1, np.bincount(y).argmax())
    most[pairs // classes] = pairs % classes
    return most[asked]
