"""What scikit-learn's plain models score on the same split: what a network has to beat.  Shapes: N rows, C classes."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from alphard import scores
from alphard.data import Splits, Table
from alphard.data.table import Array

KEY = "baselines"
ROUNDS = 1000  # of logistic regression, at most; tables take tens


def scored(splits: Splits, seed: int, *names: str) -> dict[str, dict[str, Any]]:
    """Of each baseline, fitted on the training rows: its report on the splits `names`, validation and test.

    In the order in which they should be beaten: majority class, logistic regression, gradient-boosted trees.

    seed: of what the trees draw.
    """
    tables: dict[str, Table | None] = {"validation": splits.validation, "test": splits.test}
    asked = {name: table for name in names if (table := tables[name]) is not None}
    found: dict[str, dict[str, Any]] = {}
    for model, fitted in _fitted(splits.train, seed):
        found[model] = {}
        for name, table in asked.items():
            logits = torch.from_numpy(_log_probabilities(fitted, table.X, len(splits.classes)))
            report = scores.report(logits, torch.from_numpy(table.y))
            report["balanced_accuracy"] = report["recall"]  # the mean of the classes' own
            found[model] |= {f"{name}_{key}": value for key, value in report.items() if key != "confusion_matrix"}
    return found


def _fitted(train: Table, seed: int) -> Iterator[tuple[str, Any]]:
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    yield "majority class", DummyClassifier(strategy="prior").fit(train.X, train.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops, it is a baseline all the same
        logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ROUNDS)).fit(train.X, train.y)
    yield "logistic regression", logistic
    yield "gradient-boosted trees", HistGradientBoostingClassifier(random_state=seed).fit(train.X, train.y)


def _log_probabilities(model: Any, X: Array, classes: int) -> Array:
    """(N, C) float32, which are logits as well; a class that the training rows lack is next to impossible."""
    found = np.full((len(X), classes), np.finfo(np.float32).tiny, dtype=np.float32)
    found[:, model.classes_] = model.predict_proba(X)
    log: Array = np.log(found.clip(min=np.finfo(np.float32).tiny))
    return log
