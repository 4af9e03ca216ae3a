"""What real files are like: surplus fields, saved indices, identifiers, Parquet's own types, files of another kind."""

import datetime
import decimal
import gzip
import io
import json
import pickle
import sqlite3
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphard.data import Csv, preprocessing
from alphard.data.columns import warn_of
from alphard.errors import UserError
from tests.spent import ROOM

ROWS = 60
LABELS = [0, 1] * (ROWS // 2)


def frame(**more: Any) -> pd.DataFrame:
    """Two columns that raise no eyebrow, a target, and `more`."""
    random = np.random.default_rng(0)
    town = random.choice(["Aix", "Bonn"], ROWS)
    return pd.DataFrame({"age": random.normal(40, 10, ROWS), "town": town, "label": LABELS} | more)


def csv(folder: Path, content: str | pd.DataFrame, name: str = "rows.csv", **arguments: Any) -> Csv:
    path = folder / name
    path.write_text(content if isinstance(content, str) else content.to_csv(index=False))
    return Csv(**({"path": str(path), "target": "label"} | arguments))


def parquet(folder: Path, rows: pd.DataFrame, **arguments: Any) -> Csv:
    rows.to_parquet(folder / "rows.parquet")
    return Csv(**({"path": str(folder / "rows.parquet"), "target": "label"} | arguments))


def refusal(data: Csv) -> str:
    """The one problem that loading raises."""
    with pytest.raises(UserError) as caught:
        data.splits  # noqa: B018
    (problem,) = caught.value.problems
    return problem


def said(data: Csv) -> list[str]:
    """What loading warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.splits  # noqa: B018
    return [str(warning.message) for warning in caught]


# More fields than the header


@pytest.mark.parametrize("first", ["{i},", "x{i},", "{i},x,", "0.5,"], ids=["number", "text", "two", "float"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_rows_with_more_fields_than_the_header_are_refused(tmp_path: Path, first: str, ending: str) -> None:
    text = "age,label\n" + "".join(first.format(i=i) + f"{i}.5,{i % 2}\n" for i in range(ROWS))
    path = tmp_path / f"rows{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    problem = refusal(Csv(path=str(path), target="label"))
    fields = 2 + first.count(",")
    assert problem == (
        f"data.path: {path}: its first row has {fields} fields and its header 2; name every column in the header"
    )


def test_separators_at_the_ends_of_rows_are_refused(tmp_path: Path) -> None:
    text = "age,label\n" + "".join(f"{i}.5,{i % 2},\n" for i in range(ROWS))
    problem = refusal(csv(tmp_path, text))
    assert problem.startswith(f"data.path: {tmp_path}/rows.csv: its rows end with a separator and its header does not")


def test_one_longer_row_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [f"{i}.5,{i % 2}\n" for i in range(ROWS)]
    rows[40] = "Bonn, Germany,1\n"
    problem = refusal(csv(tmp_path, "town,label\n" + "".join(rows)))
    assert "line 42 has 3 fields" in problem
    assert "data.separator" in problem


def test_another_separator_is_named_before_surplus_fields(tmp_path: Path) -> None:
    text = "age;label\n" + "".join(f"{i},5;{i % 2}\n" for i in range(ROWS))
    assert "data.separator='\";\"'" in refusal(csv(tmp_path, text))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    import os
    import threading

    os.mkfifo(tmp_path / "pipe")
    text = frame().to_csv(index=False)
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    assert len(Csv(path=str(tmp_path / "pipe"), target="label").splits.train) == 48
    writer.join()


# A saved index


@pytest.mark.parametrize("times", [1, 2])
def test_a_saved_index_is_left_out_and_said(tmp_path: Path, times: int) -> None:
    rows = frame()
    for _ in range(times):
        rows.to_csv(tmp_path / "rows.csv")
        rows = pd.read_csv(tmp_path / "rows.csv")
    data = Csv(path=str(tmp_path / "rows.csv"), target="label")
    notes = said(data)
    assert len(notes) == 1
    assert notes[0].startswith("data.path: Unnamed: 0")
    assert notes[0].endswith("counts the rows, as pandas saves an index; left out")
    assert data.splits.feature_names == csv(tmp_path, frame()).splits.feature_names
    again = preprocessing.transform(preprocessing.loads(preprocessing.dumps(data.splits.preprocessing)), rows, "rows")
    assert again.shape == (ROWS, len(data.splits.feature_names))


@pytest.mark.parametrize("arguments", [{"drop": ["Unnamed: 0"]}, {"categorical": ["town"], "numeric": ["age"]}])
def test_a_saved_index_that_was_not_asked_for_needs_no_note(tmp_path: Path, arguments: dict[str, Any]) -> None:
    frame().to_csv(tmp_path / "rows.csv")
    assert said(Csv(path=str(tmp_path / "rows.csv"), target="label", **arguments)) == []


def test_a_saved_index_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "rows.csv")
    data = Csv(path=str(tmp_path / "rows.csv"), target="label", numeric=["age", "Unnamed: 0"])
    assert "Unnamed: 0" in " ".join(said(data))
    assert "Unnamed: 0" in data.splits.feature_names


def test_a_shuffled_index_is_kept_and_warned_of_once(tmp_path: Path) -> None:
    frame().sample(frac=1, random_state=0).to_csv(tmp_path / "rows.csv")
    data = Csv(path=str(tmp_path / "rows.csv"), target="label", drop=["town"])
    (note,) = said(data)
    assert note.startswith("data.path: column Unnamed: 0 ")
    assert "data.drop=[town,'Unnamed: 0']" in note
    assert "Unnamed: 0" in data.splits.feature_names


# Parquet's own types


@pytest.mark.parametrize("value", [[1, 2], {"a": 1, "b": 2}])
def test_lists_and_structs_are_refused_by_their_columns(tmp_path: Path, value: Any) -> None:
    tags = [None, *[value] * (ROWS - 1)]
    data = parquet(tmp_path, frame(tags=tags))
    problem = refusal(data)
    assert problem.startswith("data.path: tags holds lists or structs")
    assert "data.drop" in problem
    assert parquet(tmp_path, frame(tags=tags), drop=["tags"]).splits.train.X.shape == (48, 3)
    assert parquet(tmp_path, frame(tags=tags), categorical=["town"], numeric=["age"]).splits.train.X.shape == (48, 3)
    assert refusal(parquet(tmp_path, frame(tags=tags), categorical=["tags"])).startswith("data.path: tags holds lists")
    whole = frame(tags=[value] * ROWS)
    assert refusal(parquet(tmp_path, whole, target="tags")).startswith("data.target: tags holds lists or structs")


def test_decimals_are_numbers(tmp_path: Path) -> None:
    prices = [decimal.Decimal(f"{i % 7}.25") for i in range(ROWS)]
    splits = parquet(tmp_path, frame(price=[None, *prices[1:]])).splits
    assert {n for n in splits.feature_names if "price" in n} <= {"price", "missingindicator_price"}
    row = pd.DataFrame({"age": [30.0], "town": ["Aix"], "price": [decimal.Decimal("3.25")]})
    plain = row.assign(price=[3.25])
    X, Y = (preprocessing.transform(splits.preprocessing, rows, "rows") for rows in (row, plain))
    assert np.array_equal(X, Y)


def test_decimals_named_categorical_are_the_same_categories_as_numbers(tmp_path: Path) -> None:
    splits = parquet(
        tmp_path, frame(rooms=[decimal.Decimal(f"{i % 3}.00") for i in range(ROWS)]), categorical=["rooms", "town"]
    ).splits
    assert {"rooms_0", "rooms_1", "rooms_2"} < set(splits.feature_names)
    rows = [pd.DataFrame({"age": [30.0], "town": ["Aix"], "rooms": [value]}) for value in (2, decimal.Decimal("2.00"))]
    X = [preprocessing.transform(splits.preprocessing, row, "rows") for row in rows]
    assert np.array_equal(*X)
    assert X[0][0, splits.feature_names.index("rooms_2")] == 1


def test_decimal_labels_are_classes(tmp_path: Path) -> None:
    assert parquet(tmp_path, frame(label=[decimal.Decimal(y) for y in LABELS])).splits.classes == ["0", "1"]


@pytest.mark.parametrize("named", [{}, {"numeric": ["age", "born"]}])
@pytest.mark.parametrize("last", [datetime.date(2000, 1, 1), datetime.date(9999, 12, 31), None])
def test_days_are_refused_as_dates_are(tmp_path: Path, named: dict[str, Any], last: Any) -> None:
    born = [datetime.date(1990, 1, 1 + i % 28) for i in range(ROWS - 1)]
    problem = refusal(parquet(tmp_path, frame(born=[*born, last]), **named))
    assert problem.startswith("data.path: ")
    assert "born" in problem
    assert "derive numbers from them" in problem


def test_a_named_index_is_a_column_and_an_unnamed_one_is_not(tmp_path: Path) -> None:
    named = frame(rooms=[i % 5 for i in range(ROWS)]).set_index("rooms")
    assert "rooms" in parquet(tmp_path, named).splits.feature_names
    assert parquet(tmp_path, frame().set_index("label")).splits.classes == ["0", "1"]
    unnamed = frame().set_axis([i % 5 for i in range(ROWS)])
    assert parquet(tmp_path, unnamed).splits.feature_names == ["age", "town_Aix", "town_Bonn"]
    both = frame(rooms=[i % 5 for i in range(ROWS)], other=LABELS).set_index(["rooms", "other"])
    both.index.names = ["rooms", None]
    assert parquet(tmp_path, both).splits.feature_names == ["rooms", "age", "town_Aix", "town_Bonn"]


# Columns that teach nothing


def test_only_the_target_is_one_error(tmp_path: Path) -> None:
    problem = refusal(csv(tmp_path, frame()[["label"]]))
    assert (
        problem == f"data.path: {tmp_path}/rows.csv has no column but label, the target; nothing is left to learn from"
    )


def test_constant_columns_are_one_line(tmp_path: Path) -> None:
    gaps = [None if i % 3 else 1.0 for i in range(ROWS)]
    (note,) = said(csv(tmp_path, frame(zero=0, country="DE", gaps=gaps, half=0.5)))
    assert note == (
        "data.path: columns zero, country, half hold one value in all training rows; "
        "data.drop=[zero,country,half] leaves them out"
    )


def test_columns_that_repeat_others_are_one_line(tmp_path: Path) -> None:
    rows = frame(seen=[i % 5 if i % 3 else None for i in range(ROWS)])
    rows = rows.assign(age2=rows.age, town2=rows.town, town3=rows.town, seen2=rows.seen, other=-rows.age)
    (note,) = said(csv(tmp_path, rows))
    assert note == (
        "data.path: columns that repeat others in all training rows: age2 (age), town2 (town), town3 (town), seen2 (seen); "
        "data.drop=[age2,town2,town3,seen2] leaves them out"
    )


def test_an_identifier_is_warned_of(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).permutation(ROWS) + 1000
    (note,) = said(csv(tmp_path, frame(**{"customer id": numbers}, floats=numbers + 0.5), drop=["town"]))
    assert note.startswith("data.path: column customer id is another whole number in every row")
    assert note.endswith("data.drop=[town,'customer id'] leaves it out")


def test_a_column_that_almost_repeats_or_is_almost_constant_is_not_warned_of(tmp_path: Path) -> None:
    rows = frame()
    other = rows.age.copy()
    other[::7] += 1e-9
    assert said(csv(tmp_path, rows.assign(other=other, rare=[*[0] * 30, 1, 1, 1, 1, 1, *[0] * 25]))) == []


def test_few_rows_make_no_identifiers(tmp_path: Path) -> None:
    assert said(csv(tmp_path, frame(n=range(ROWS)).head(12))) == []


def test_a_million_rows_are_looked_at_in_seconds() -> None:
    n, random = 1_000_000, np.random.default_rng(0)
    base = random.normal(size=(n, 30))
    rows = pd.DataFrame(base, columns=[f"f{i}" for i in range(30)])
    sparse = {f"s{i}": (random.random(n) < 1e-4).astype(float) for i in range(8)}
    ids = {f"i{i}": random.permutation(n) for i in range(3)}
    texts = {f"t{i}": pd.Series(random.choice(["a", "b", "c"], n), dtype="str") for i in range(5)}
    rows = rows.assign(**sparse, **ids, **texts, zero=0, one=1, again=rows.f0, twice=texts["t0"])
    texts_too = [*texts, "twice"]
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of(rows, [name for name in rows if name not in texts_too], texts_too, [])
    assert time.process_time() - start < ROOM * 2
    assert len(caught) == 5  # the constants, the doubles, and three identifiers


# Targets that are no classes


@pytest.mark.parametrize("price", [range(ROWS), [f"{i} EUR" for i in range(ROWS)], [*range(ROWS - 20), *range(20)]])
def test_a_target_of_measurements_is_told_so(tmp_path: Path, price: Any) -> None:
    problem = refusal(csv(tmp_path, frame(price=price), target="price"))
    assert problem.startswith(
        f"data.target: price has {len(set(price))} different values in {ROWS} rows; labels are classes"
    )


def test_large_numbers_are_read_easily(tmp_path: Path) -> None:
    rows = pd.concat([frame()] * 20)
    problem = refusal(csv(tmp_path, rows.assign(price=range(len(rows))), target="price"))
    assert problem.startswith("data.target: price has 1,200 different values in 1,200 rows; labels are classes")


def test_a_class_of_one_row_is_named(tmp_path: Path) -> None:
    labels = ["yes", "no"] * (ROWS // 2)
    labels[7] = "perhaps"
    problem = refusal(csv(tmp_path, frame(label=labels)))
    assert problem.startswith("data.validation_fraction: class perhaps has only 1 row")
    labels[8] = "never"
    assert "class never has only 1 row, and 1 more class likewise" in refusal(csv(tmp_path, frame(label=labels)))


# Files of another kind


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


def arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, X_train=np.zeros((2, 2)))
    return content.getvalue()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "x") as connection:
        connection.execute("create table t (a int)")
    connection.close()
    return (folder / "x").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Office document; save the sheet as CSV"),
        ("rows.csv", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Office document; save the sheet as CSV"),
        ("torn.xlsx", zipped("xl/workbook.xml")[:20], "an Office document; save the sheet as CSV"),
        ("rows.ods", zipped("mimetype", "content.xml"), "an Office document; save the sheet as CSV"),
        ("rows.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an Office document; save the sheet as CSV"),
        ("rows.npz", arrays(), "an npz file; data=npz reads it"),
        ("rows.pkl", pickle.dumps({"a": [1]}), "a pickle, which could run code; save the rows as CSV or Parquet"),
        ("rows.db", None, "a SQLite database; export the table as CSV"),
        ("rows.feather", b"ARROW1\0\0" + b"\0" * 90, "an Arrow file; save it as Parquet"),
        ("rows.csv", b"\n<!DOCTYPE html>\n<html>", "a web page; give the address of the file itself"),
        ("rows.csv", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer; `git lfs pull` fetches the file"),
        ("rows.json", json.dumps([{"a": 1}]).encode(), "JSON; save the rows as CSV or Parquet"),
        ("rows.tar.gz", gzip.compress(b"\0" * 1024), "an archive; give one CSV or Parquet file"),
        ("rows.zip", zipped("a.csv", "b.csv"), "an archive of 2 files; give one CSV or Parquet file"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and len(value) < 15 else "",
)  # fmt: skip
def test_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(database(tmp_path) if content is None else content)
    assert refusal(Csv(path=str(path), target="label")) == f"data.path: {path} is {words}"


@pytest.mark.parametrize("name", ["rows.gz", "rows", "rows.csv"])
def test_gzip_is_known_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(frame().to_csv(index=False).encode()))
    assert len(Csv(path=str(tmp_path / name), target="label").splits.train) == 48


def test_parquet_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "part-0")
    assert len(Csv(path=str(tmp_path / "part-0"), target="label").splits.train) == 48
