"""CSV and Parquet files, and the preprocessing that is fitted on their training rows and saved with the model."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from skops.io.exceptions import UntrustedTypesFoundException

from alphard.data import Csv, preprocessing
from alphard.errors import UserError

ROWS = 60


def frame() -> pd.DataFrame:
    """Numbers with gaps, whole numbers, text with gaps, and true or false, with a target of two classes."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "age": random.normal(40, 10, ROWS),
            "rooms": random.integers(1, 5, ROWS),
            "town": random.choice(["Aix", "Bonn", "Cork"], ROWS),
            "owner": random.choice([True, False], ROWS),
            "label": np.arange(ROWS) % 2,
        }
    )
    rows.loc[::7, "age"] = np.nan
    rows.loc[::9, "town"] = None
    return rows


def source(folder: Path, rows: pd.DataFrame, **arguments: Any) -> Csv:
    path = folder / "rows.csv"
    rows.to_csv(path, index=False)
    return Csv(**({"path": str(path), "target": "label"} | arguments))


def refusal(data: Csv) -> str:
    """The one problem that loading raises."""
    with pytest.raises(UserError) as caught:
        data.splits  # noqa: B018
    (problem,) = caught.value.problems
    return problem


def validation_rows(data: Csv) -> np.ndarray:
    return data.divide(np.arange(ROWS) % 2)[1]


# Columns


def test_columns_are_found_by_type(tmp_path: Path) -> None:
    splits = source(tmp_path, frame()).splits
    towns = ["town_Aix", "town_Bonn", "town_Cork", "town_nan"]
    assert splits.feature_names == ["age", "rooms", "missingindicator_age", *towns, "owner_False", "owner_True"]
    assert splits.train.X.shape == (48, 9)
    assert splits.classes == ["0", "1"]


@pytest.mark.parametrize(
    ("named", "numeric", "categorical"),
    [
        ({"categorical": ["rooms", "town", "owner"]}, ["age"], ["rooms", "town", "owner"]),
        ({"numeric": ["age", "rooms", "owner"]}, ["age", "rooms", "owner"], ["town"]),
        ({"numeric": ["rooms"], "categorical": ["town"]}, ["rooms"], ["town"]),
        ({"numeric": [], "drop": ["age"]}, [], ["rooms", "town", "owner"]),
        ({"categorical": ["town", "rooms"], "drop": ["rooms", "owner"]}, ["age"], ["town"]),
    ],
)
def test_columns_are_taken_as_named_and_dropped_whether_named_or_not(
    tmp_path: Path, named: dict[str, Any], numeric: list[str], categorical: list[str]
) -> None:
    fitted = source(tmp_path, frame(), **named).splits.preprocessing
    assert [columns for _, _, columns in fitted.transformers] == [numeric, categorical]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"target": "lable"}, "data.target: no column lable; did you mean `label`? The columns are age, rooms, town,"),
        ({"target": "zzz"}, "data.target: no column zzz. The columns are age, rooms, town, owner, label"),
        ({"drop": ["twon"]}, "data.drop: no column twon; did you mean `town`? "),
        ({"numeric": ["Age"]}, "data.numeric: no column Age; did you mean `age`? "),
        ({"categorical": ["towns"]}, "data.categorical: no column towns; did you mean `town`? "),
        ({"numeric": ["age"], "categorical": ["town", "age"]}, "data.numeric: age also in data.categorical"),
        ({"numeric": ["age", "label"]}, "data.numeric: label is data.target"),
        ({"drop": ["age", "rooms", "town", "owner"]}, "data.path: no column is left"),
        ({"numeric": ["town"], "categorical": []}, "data.path: column town, row 3: 'Cork' is no number"),
        ({"target": "age"}, "data.target: age is missing in 9 of 60 rows"),
    ],
)
def test_wrong_column_is_one_error_by_its_config_path(tmp_path: Path, arguments: dict[str, Any], problem: str) -> None:
    assert refusal(source(tmp_path, frame(), **arguments)).startswith(problem)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("label", 1, "data.target: only one class, 1"),
        ("label", 0.5, "data.target: label: y holds 0.5; labels are classes"),
        ("label", range(ROWS), "data.target: label has 60 different values in 60 rows"),
        ("label", [0] * (ROWS - 1) + [np.inf], "data.target: label: y[59] is not finite"),
        ("age", np.nan, "data.path: age without any value in the training rows"),
        ("town", None, "data.path: town without any value in the training rows"),
        ("age", [np.inf] * ROWS, "data.path: column age holds inf"),
        ("rooms", [1e300, 1.5] * (ROWS // 2), "data.path: column rooms holds 1e+300"),
    ],
)
def test_bad_value_is_one_error_by_its_config_path(tmp_path: Path, column: str, value: Any, problem: str) -> None:
    assert refusal(source(tmp_path, frame().assign(**{column: value}))).startswith(problem)


@pytest.mark.parametrize("named", [{}, {"numeric": ["age", "born"]}])
def test_dates_are_refused_as_numbers(tmp_path: Path, named: dict[str, Any]) -> None:
    rows = frame().assign(born=pd.date_range("1990-01-01", periods=ROWS))
    rows.to_parquet(tmp_path / "rows.parquet")
    problem = refusal(Csv(path=str(tmp_path / "rows.parquet"), target="label", **named))
    assert problem.startswith("data.path: ")
    assert "born" in problem
    assert "derive numbers from them" in problem


def test_text_that_looks_like_a_name_is_warned_of(tmp_path: Path) -> None:
    rows = frame().assign(name=[f"person {i}" for i in range(ROWS)])
    with pytest.warns(UserWarning, match=r"^data.path: column name has 48 values in 48 rows"):
        source(tmp_path, rows).splits  # noqa: B018


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["yes", "no"], ["no", "yes"]),
        ([True, False], ["False", "True"]),
        ([2.0, 10.0], ["2", "10"]),
        (["b", 3], ["3", "b"]),
    ],
)
def test_target_of_any_kind_is_numbered_in_the_order_of_its_classes(
    tmp_path: Path, labels: list[Any], classes: list[str]
) -> None:
    data = source(tmp_path, frame().assign(label=labels * (ROWS // 2)))
    assert data.splits.classes == classes
    told = [str(label).removesuffix(".0") for label in labels] * (ROWS // 2)
    rows = data.divide(np.array([classes.index(label) for label in told]))[1]
    assert [classes[i] for i in data.splits.validation.y] == [told[row] for row in rows]


# Files


def written(rows: pd.DataFrame, ending: str) -> bytes:
    """The rows in the format of a file's ending."""
    text = rows.to_csv(index=False).encode()
    content = io.BytesIO()
    if ending in ("parquet", "pq"):
        rows.to_parquet(content)
    elif ending == "csv.gz":
        return gzip.compress(text)
    elif ending == "csv.zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("rows.csv", text)
    else:
        return text
    return content.getvalue()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.zip", "txt", "parquet", "pq"])
def test_every_format_gives_the_same_rows_from_disk_and_by_url(tmp_path: Path, ending: str) -> None:
    expected = source(tmp_path, frame()).splits
    content = written(frame(), ending)
    (tmp_path / f"same.{ending}").write_bytes(content)
    fsspec.filesystem("memory").pipe_file(f"/test_csv/rows.{ending}", content)
    for path in (str(tmp_path / f"same.{ending}"), f"memory://test_csv/rows.{ending}"):
        splits = Csv(path=path, target="label").splits
        assert splits.feature_names == expected.feature_names
        assert np.array_equal(splits.train.X, expected.train.X)
        assert np.array_equal(splits.validation.y, expected.validation.y)


def test_parquet_with_numbers_for_column_names(tmp_path: Path) -> None:
    rows = frame().set_axis([*range(4), "label"], axis=1)
    rows.columns = rows.columns.astype(object)
    path = tmp_path / "rows.csv"
    rows.to_csv(path, index=False)
    assert Csv(path=str(path), target="label", drop=["0"]).splits.feature_names[0] == "1"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.csv", b"age,label\n", "has a header and no rows"),
        ("rows.csv", b"age,label\n1,2\n3,4,5,6\n", "cannot be read"),
        ("rows.csv", "age,label\nM\u00fcller,1\n".encode("latin-1"), "is not utf-8"),
        ("rows.csv.gz", b"age,label\n1,2\n", "cannot be read"),
        ("rows.csv.gz", written(frame(), "csv.gz")[:200], "cannot be read"),
        ("rows.csv.gz", written(frame(), "csv.gz")[:200] + b"\xff" * 200, "cannot be read"),
        ("rows.csv.zip", written(frame(), "csv.zip")[:200], "cannot be read"),
        ("rows.parquet", b"", "cannot be read"),
        ("rows.parquet", b"age,label\n1,2\n", "cannot be read"),
        ("rows.parquet", written(frame(), "parquet")[:1000], "cannot be read"),
    ],
)
def test_torn_or_mistaken_file_is_one_error(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    problem = refusal(Csv(path=str(path), target="label"))
    assert problem.startswith(f"data.path: {path} {words}")


def test_missing_file_is_one_error(tmp_path: Path) -> None:
    assert refusal(Csv(path=str(tmp_path / "no.csv"), target="label")) == f"data.path: {tmp_path}/no.csv does not exist"


# Preprocessing


def test_only_the_training_rows_are_fitted(tmp_path: Path) -> None:
    plain = source(tmp_path, frame())
    rows, changed = frame(), validation_rows(plain)
    rows.loc[changed, "age"] = 1e6
    rows.loc[changed, "town"] = "Rome"
    spoilt = source(tmp_path, rows)
    assert spoilt.splits.feature_names == plain.splits.feature_names
    assert np.array_equal(spoilt.splits.train.X, plain.splits.train.X)
    assert (spoilt.splits.validation.X[:, 0] > 1e3).all()


def test_numbers_have_median_for_gaps_then_mean_0_and_deviation_1(tmp_path: Path) -> None:
    data = source(tmp_path, frame())
    train = frame().iloc[data.divide(np.arange(ROWS) % 2)[0]]
    age = train["age"].fillna(train["age"].median())
    assert np.allclose(data.splits.train.X[:, 0], (age - age.mean()) / age.std(ddof=0), atol=1e-6)


@pytest.mark.parametrize("absent", [None, np.nan, pd.NA], ids=["None", "nan", "NA"])
@pytest.mark.parametrize("column", ["age", "rooms", "town", "owner", "all"])
def test_missing_at_prediction_gives_a_finite_row(tmp_path: Path, absent: Any, column: str) -> None:
    splits = source(tmp_path, frame()).splits
    row: dict[str, Any] = {"age": 30.0, "rooms": 2, "town": "Cork", "owner": True}
    row |= dict.fromkeys(row, absent) if column == "all" else {column: absent}
    X = preprocessing.transform(splits.preprocessing, pd.DataFrame([row]), "rows")
    assert X.shape == (1, len(splits.feature_names))
    assert np.isfinite(X).all()
    if column in ("town", "all"):
        assert X[0, splits.feature_names.index("town_nan")] == 1


def test_unseen_category_is_all_zeros(tmp_path: Path) -> None:
    splits = source(tmp_path, frame()).splits
    row = pd.DataFrame([{"age": 30.0, "rooms": 2, "town": "Rome", "owner": "maybe"}])
    X = preprocessing.transform(splits.preprocessing, row, "rows")
    assert (X[0, 3:] == 0).all()


def test_rare_categories_beyond_the_most_share_one(tmp_path: Path) -> None:
    towns = ["Aix"] * 30 + ["Bonn"] * 20 + ["Cork"] * 5 + ["Rome"] * 5
    splits = source(tmp_path, frame().assign(town=towns), drop=["owner"], max_categories=3).splits
    assert [n for n in splits.feature_names if "town" in n] == ["town_Aix", "town_Bonn", "town_infrequent_sklearn"]
    X = [
        preprocessing.transform(splits.preprocessing, pd.DataFrame([{"age": 1.0, "rooms": 1, "town": town}]), "rows")
        for town in ("Cork", "Rome", "never seen")
    ]
    assert np.array_equal(X[0], X[1])
    assert np.array_equal(X[1], X[2])


def test_whole_numbers_with_a_gap_are_the_same_categories(tmp_path: Path) -> None:
    splits = source(tmp_path, frame(), categorical=["rooms", "town", "owner"]).splits
    assert {"rooms_1", "rooms_2", "rooms_3", "rooms_4"} < set(splits.feature_names)
    rows = [
        pd.DataFrame([{"age": 30.0, "rooms": rooms, "town": "Cork", "owner": True}])
        for rooms in (3, 3.0, "3", np.int8(3), np.float32(3))
    ]
    X = [preprocessing.transform(splits.preprocessing, row, "rows") for row in rows]
    assert X[0][0, splits.feature_names.index("rooms_3")] == 1
    assert all(np.array_equal(x, X[0]) for x in X)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"town": None}, "rows: no column town; the rows have age, rooms, owner"),
        ({"age": ["old"]}, "rows: column age, row 1: 'old' is no number"),
        ({"age": [np.inf]}, "rows: column age holds inf"),
        ({"age": [1e39]}, "rows: column age holds 1e+39"),
        ({"age": [pd.Timestamp("2020-01-01")]}, "rows: column age holds dates"),
    ],
)
def test_rows_that_cannot_be_predicted_are_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    splits = source(tmp_path, frame()).splits
    row = {"age": [30.0], "rooms": [2], "town": ["Cork"], "owner": [True]} | change
    rows = pd.DataFrame({name: value for name, value in row.items() if value is not None})
    with pytest.raises(UserError) as caught:
        preprocessing.transform(splits.preprocessing, rows, "rows")
    assert str(caught.value).startswith(problem)


def test_saved_preprocessing_gives_bitwise_the_same_rows(tmp_path: Path) -> None:
    data = source(tmp_path, frame())
    content = preprocessing.dumps(data.splits.preprocessing)
    read = pd.read_csv(data.path).iloc[validation_rows(data)]
    X = preprocessing.transform(preprocessing.loads(content), read, "rows")
    assert X.tobytes() == data.splits.validation.X.tobytes()


class Trap:
    """Runs code when it is unpickled or built."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo sprung",)


def test_untrusted_type_is_refused_at_loading(tmp_path: Path) -> None:
    fitted = source(tmp_path, frame()).splits.preprocessing
    fitted.trap = Trap()
    with pytest.raises(UntrustedTypesFoundException):
        preprocessing.loads(preprocessing.dumps(fitted))


def test_tampered_type_is_refused_at_loading(tmp_path: Path) -> None:
    content = preprocessing.dumps(source(tmp_path, frame()).splits.preprocessing)
    tampered = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(tampered, "w") as after:
        for name in before.namelist():
            part = before.read(name)
            if name == "schema.json":
                schema = json.loads(part)
                schema["__class__"], schema["__module__"] = "system", "os"
                part = json.dumps(schema).encode()
            after.writestr(name, part)
    with pytest.raises(UntrustedTypesFoundException, match=r"os\.system"):
        preprocessing.loads(tampered.getvalue())


def test_separator_decimal_and_encoding_are_read_as_said(tmp_path: Path) -> None:
    towns = ["Bern", "Z\u00fcrich", "Z\u00fcrich"]
    rows = "".join(f"{n},5;{towns[n % 3]};{n % 2}\n" for n in range(40))
    (tmp_path / "rows.csv").write_bytes(f"x;town;label\n{rows}".encode("cp1252"))
    data = Csv(path=str(tmp_path / "rows.csv"), target="label", separator=";", decimal=",", encoding="cp1252")
    assert data.splits.feature_names == ["x", "town_Bern", "town_Z\u00fcrich"]
    assert "data.separator" in refusal(Csv(path=str(tmp_path / "rows.csv"), target="label", encoding="cp1252"))
