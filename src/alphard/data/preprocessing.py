"""A user's columns -> X, fitted on the training rows and the same at prediction.

The fitted transformer is scikit-learn's; skops saves it in a form that loads without running code.
"""

import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from alphard.data.columns import is_date
from alphard.data.table import Array, features
from alphard.errors import UserError

FILE = "preprocessing.skops"


def build(numeric: Sequence[str], categorical: Sequence[str], max_categories: int) -> Any:
    """An unfitted ColumnTransformer: medians and a mark for what is missing, then mean 0 and deviation 1; one-hot.

    A category that the training rows lack becomes all zeros; a missing one is a category where training knew it.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    texts = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=max_categories, sparse_output=False)
    return ColumnTransformer(
        [("numeric", numbers, list(numeric)), ("categorical", texts, list(categorical))],
        verbose_feature_names_out=False,
    )


def fit(transformer: Any, frame: pd.DataFrame, at: str) -> Any:
    """Fit `build`'s transformer on the training rows, which the config path `at` named."""
    return transformer.fit(_tidy(frame, *_columns(transformer), at))


def transform(transformer: Any, frame: pd.DataFrame, at: str) -> Array:
    """X (N, F) float32 of a frame's rows; UserError at config path `at` names the columns that it lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found unknown categories")  # all zeros, as promised
        X = transformer.transform(_tidy(frame, *_columns(transformer), at))
    return features(X, at)


def dumps(transformer: Any) -> bytes:
    """The fitted transformer as skops writes it."""
    import skops.io

    content: bytes = skops.io.dumps(transformer)
    return content


def loads(content: bytes) -> Any:
    """A fitted transformer, of types that skops trusts by itself, and a dtype, which SimpleImputer keeps."""
    import skops.io

    return skops.io.loads(content, trusted=["numpy.dtype"])  # read as an empty array, without pickle


def _columns(transformer: Any) -> tuple[list[str], list[str]]:
    numeric, categorical = (columns for _, _, columns in transformer.transformers)
    return numeric, categorical


def _tidy(frame: pd.DataFrame, numeric: list[str], categorical: list[str], at: str) -> pd.DataFrame:
    """Numbers as float64, categories as text or missing: what a file's types happened to be must not matter."""
    missing = [name for name in (*numeric, *categorical) if name not in frame]
    if missing:
        raise UserError(f"{at}: no column {', '.join(missing)}; the rows have {', '.join(map(str, frame.columns))}")
    tidy = {name: _numbers(frame[name], at) for name in numeric}
    # As objects even where all are missing: the encoder compares them with text.
    tidy |= {name: pd.Series([*map(_text, frame[name])], frame.index, dtype=object) for name in categorical}
    return pd.DataFrame(tidy, index=frame.index)


def _numbers(column: "pd.Series[Any]", at: str) -> "pd.Series[Any]":
    if is_date(column):
        raise UserError(f"{at}: column {column.name} holds dates; derive numbers from them, or drop it")
    try:
        numbers = pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError) as error:
        raise UserError(f"{at}: column {column.name}: {error}; each value must be a number or missing") from None
    large = numbers[numbers.abs() > np.finfo(np.float32).max]
    if len(large):
        raise UserError(
            f"{at}: column {column.name} holds {large.iloc[0]}; give numbers below 3.4e38, or leave it empty"
        )
    return numbers


def _text(value: object) -> object:
    """3, 3.0 and a decimal's 3.00 are one category: a column of whole numbers with a gap is read as floats."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
