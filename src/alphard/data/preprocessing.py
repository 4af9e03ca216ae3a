"""A user's columns -> X, fitted on the training rows and the same at prediction.

The fitted transformer is scikit-learn's; skops saves it in a form that loads without running code.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from alphard import files, storage
from alphard.data import categories
from alphard.data.categories import New
from alphard.data.columns import is_date
from alphard.data.table import Array, features
from alphard.errors import UserError

FILE = files.PREPROCESSING
NO_TEXTS: Mapping[str, Collection[str]] = MappingProxyType({})


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


def transform(transformer: Any, frame: pd.DataFrame, at: str, decimal: str = ".", new: New | None = None) -> Array:
    """X (N, F) float32 of a frame's rows; UserError at config path `at` names the columns that it lacks.

    A category may have any type, and may be text where training read numbers, so that a part of a file gives the same
    as the whole.

    decimal: of the file that the texts come from.
    new:     is told which categories training did not know.
    """
    tidy = _tidy(frame, *_columns(transformer), at, _known(transformer), decimal, new)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found unknown categories")  # all zeros, as promised
        X = transformer.transform(tidy)
    return features(X, at)


def numbers(column: "pd.Series[Any]", at: str) -> "pd.Series[Any]":
    """A column as float64, with NaN for what is missing; UserError at `at` names the row that holds no number."""
    if is_date(column):
        raise UserError(f"{at}: column {column.name} holds dates; derive numbers from them, or drop it")
    try:
        found = pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError) as error:
        raise UserError(f"{at}: column {column.name}{_culprit(column, error)}") from None
    large = found[found.abs() > np.finfo(np.float32).max]
    if len(large):
        raise UserError(
            f"{at}: column {column.name} holds {large.iloc[0]}; give numbers below 3.4e38, or leave it empty"
        )
    return found


def named_columns(transformer: Any) -> tuple[list[str], list[str]] | None:
    """The numeric and the categorical columns that `build`'s transformer reads; None for one of another make."""
    parts = {part[0]: part[2] for part in getattr(transformer, "transformers", ())}
    return _columns(transformer) if [*parts] == ["numeric", "categorical"] else None


def dumps(transformer: Any) -> bytes:
    """The fitted transformer as skops writes it."""
    import skops.io

    content: bytes = skops.io.dumps(transformer)
    return content


def loads(content: bytes) -> Any:
    """A fitted transformer, of types that skops trusts by itself, and a dtype, which SimpleImputer keeps."""
    import skops.io

    return skops.io.loads(content, trusted=["numpy.dtype"])  # read as an empty array, without pickle


def load(content: bytes, width: int, at: str) -> Any:
    """A fitted transformer to X of `width` features, or UserError that begins with `at`, which names its file."""
    try:
        transformer = loads(content)
        found = len(transformer.get_feature_names_out()) if hasattr(transformer, "get_feature_names_out") else width
    except Exception as error:  # skops's own for types that it does not trust, zipfile's, json's and numpy's
        if "ntrusted" in type(error).__name__:
            raise UserError(f"{at} holds types that could run code: {str(error).split(chr(10))[0]}") from None
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"{at} is no whole {FILE} ({reason}); write it again") from None
    if not hasattr(transformer, "transform"):
        raise UserError(f"{at} holds {type(transformer).__name__}, which transforms nothing; give a run's {FILE}")
    if found != width:
        raise UserError(f"{at} makes {found} features, and X has {width}; give the one that X was made by")
    return transformer


def read(path: str, width: int, at: str) -> Any:
    """The transformer in a file; UserError at config path `at`."""
    with storage.reading(path, at) as file:
        return load(file.read(), width, f"{at}: {path}")


def _columns(transformer: Any) -> tuple[list[str], list[str]]:
    numeric, categorical = (columns for _, _, columns in transformer.transformers)
    return numeric, categorical


def _known(transformer: Any) -> dict[str, set[str]]:
    """The categories that training knew, by column."""
    _, names = _columns(transformer)
    known = transformer.named_transformers_["categorical"].categories_ if names else ()
    return {name: {one for one in found if isinstance(one, str)} for name, found in zip(names, known, strict=True)}


def _tidy(
    frame: pd.DataFrame,
    numeric: list[str],
    categorical: list[str],
    at: str,
    known: Mapping[str, Collection[str]] = NO_TEXTS,
    decimal: str = ".",
    new: New | None = None,
) -> pd.DataFrame:
    """Numbers as float64, categories as text or missing: what a file's types happened to be must not matter."""
    missing = [name for name in (*numeric, *categorical) if name not in frame]
    if missing:
        raise UserError(f"{at}: no column {', '.join(missing)}; the rows have {', '.join(map(str, frame.columns))}")
    tidy = {name: numbers(frame[name], at) for name in numeric}
    tidy |= {name: categories.of(frame[name], known.get(name), decimal, new) for name in categorical}
    return pd.DataFrame(tidy, index=frame.index)


def _culprit(column: "pd.Series[Any]", error: Exception) -> str:
    """Which row holds no number; without one to blame, what pandas says."""
    remedy = "each value must be a number or missing"
    try:
        strange = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        return f", row {int(strange.index[0]) + 1}: {strange.iloc[0]!r} is no number; {remedy}"
    except (ValueError, TypeError, IndexError):
        return f": {error}; {remedy}"
