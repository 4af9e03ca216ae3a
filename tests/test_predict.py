"""`alphard predict`: a file of rows through a finished run, the same numbers as at validation."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alphard import artifacts, build, predict, predictions, scores
from alphard.cli import main
from alphard.data import preprocessing
from alphard.data.chunks import Rows
from alphard.data.reading import read
from alphard.errors import Interrupted
from alphard.storage import Folder
from tests.conftest import copied, environment
from tests.in_process import config_of, run_here

ROWS = 400
CSV = ("data=csv", "data.target=kind", "epochs=2", "trainer=cpu", "data.test_fraction=0.0")


def frame(rows: int = ROWS) -> pd.DataFrame:
    """Numbers, numbers with gaps, codes that look like numbers, text, true and false with gaps, and three classes."""
    random = np.random.default_rng(0)
    age = random.normal(40, 10, rows).round(2)
    return pd.DataFrame(
        {
            "id": [f"{i:05d}" for i in range(rows)],
            "age": np.where(random.random(rows) < 0.1, np.nan, age),
            "rooms": random.integers(1, 6, rows),
            "floor": pd.array(random.integers(0, 4, rows), dtype="Int64"),
            "zip": random.choice(["01", "02", "A1"], rows),
            "town": random.choice(["Aix", "Bonn", "Cork, Ireland", None], rows),
            "owner": random.choice([True, False, None], rows),
            "kind": np.array(["flat", "house", "tent"])[(age > 35).astype(int) + (age > 45)],
        }
    ).assign(floor=lambda f: f["floor"].mask(random.random(rows) < 0.1))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.csv and a run on it, which no test changes."""
    folder = tmp_path_factory.mktemp("predict")
    frame().to_csv(folder / "rows.csv", index=False)
    categorical = "data.categorical=[floor,zip,town,owner]"
    line = (*CSV, f"data.path={folder / 'rows.csv'}", "data.drop=[id]", categorical, "model.class_weights=balanced")
    run_here(folder / "run", *line, lean=True)
    return folder


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working directory."""
    shutil.copytree(home, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class Said:
    """What a command left: its status, stdout and stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        capsys.readouterr()
        self.status = main(["predict", *words])
        self.out, self.err = capsys.readouterr()


def written(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    types = {name: "float32" for name in pd.read_csv(path, nrows=0) if name.startswith("probability_")}
    return pd.read_csv(path, dtype={"prediction": "str", "id": "str"} | types)


def at_validation(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the validation split, and the probabilities that the run's own report is made of."""
    config = OmegaConf.load(run / "config.yaml")
    data = build.data_of(config)
    model = build.model_of(config, data.facts)
    artifacts.load(Folder(str(run)), model)
    judge = build.judge_on("cpu", None)
    logits, _ = scores.logits_of(model, data.val_dataloader(), len(data.splits.classes), judge.precision_plugin)
    whole = read(config.data.path)
    labels = np.unique(whole[config.data.target].astype(str), return_inverse=True)[1]
    return data.divide(labels)[1], logits.softmax(dim=1).numpy()


def probabilities(found: pd.DataFrame) -> np.ndarray:
    return found[[name for name in found if name.startswith("probability_")]].to_numpy(dtype="float32")


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# The same numbers as at validation


@pytest.mark.parametrize("name", ["some.csv", "some.parquet", "some.csv.gz"])
def test_validation_rows_get_bitwise_the_probabilities_of_the_validation(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    rows, expected = at_validation(folder / "run")
    if name.endswith("parquet"):
        pd.read_csv("rows.csv").iloc[rows].to_parquet(name)
    else:
        header, *lines = Path("rows.csv").read_text().splitlines(keepends=True)
        text = "".join([header, *(lines[row] for row in rows)])
        Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    done = Said(capsys, "run", name, "out=out.parquet")
    assert done.status == 0, done.err
    found = written(folder / "out.parquet")
    assert probabilities(found).tobytes() == expected.tobytes()
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert f"accuracy: {metrics['validation_accuracy']:.6f} on the {len(rows)} rows that have kind" in done.out
    assert list(found["prediction"]) == [metrics["classes"][i] for i in expected.argmax(axis=1)]


def test_more_rows_than_a_chunk_and_one_more_are_bitwise_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = predictions.CHUNK + 1
    random = np.random.default_rng(0)
    columns = {"x": random.normal(size=2 * rows), "c": random.choice(list("ab"), 2 * rows)}
    pd.DataFrame(columns | {"y": random.integers(0, 2, 2 * rows)}).to_csv("rows.csv", index=False)
    line = ("data=csv", "data.path=rows.csv", "data.target=y", "data.validation_fraction=0.5", "data.test_fraction=0.0")
    run_here(tmp_path / "run", *line, "epochs=1", "batch_size=4096", "trainer=cpu", lean=True)
    held, expected = at_validation(tmp_path / "run")
    assert len(held) == rows
    pd.read_csv("rows.csv", dtype=str).iloc[held].to_csv("held.csv", index=False)
    done = Said(capsys, "run", "held.csv", "out=out.csv")
    assert done.status == 0, done.err
    assert probabilities(written(tmp_path / "out.csv")).tobytes() == expected.tobytes()
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert f"accuracy: {metrics['validation_accuracy']:.6f}" in done.out


TEXTS = ["a", "A1", "3x", "1_000", "9007199254740993", "inf", "0.1", "\u0661"]
VALUES = st.sampled_from([*TEXTS, "", "3", "3.0", "007", "7", "-0", "1e3", "2.50", " 3", "TRUE", "True", "false", "NA"])
NUMBERS = st.sampled_from(["", "1", "2.5", "-3e2", "007", "NA", "9007199254740993", "0.1"])


ROW = st.tuples(NUMBERS, VALUES, st.sampled_from("pq"))
A_FILE = (st.lists(ROW, min_size=4, max_size=40), st.integers(1, 7))


def a_part_is_read_as_the_whole(rows: list[tuple[str, str, str]], size: int) -> None:
    """Whatever types a chunk's own rows would have, the preprocessing makes the same of it, bit by bit.

    Whole numbers beyond 64 bits are left out: beside a float, pandas itself reads the gaps of such a column as text.
    """
    path = "memory://test_predict/part.csv"
    rows = [("1", "3", "p"), *rows]  # a column without any value is refused at training
    text = "number,category,other\n" + "".join(",".join(row) + "\n" for row in rows)
    fsspec.filesystem("memory").pipe_file("/test_predict/part.csv", text.encode())
    whole = read(path)  # as training does, which then looks at some of the rows
    fitted = preprocessing.build(["number"], ["category", "other"], 50)
    preprocessing.fit(fitted, whole.iloc[: 1 + len(rows) // 2], "rows")
    expected = preprocessing.transform(fitted, whole, "rows")
    chunks = Rows(path).chunks(size, ["number", "category", "other"], ["number"])
    found = [preprocessing.transform(fitted, chunk, "rows") for chunk, _ in chunks]
    assert np.concatenate(found).tobytes() == expected.tobytes()


test_a_part_of_a_file_is_read_as_the_whole = settings(max_examples=30, deadline=None)(
    given(*A_FILE)(a_part_is_read_as_the_whole)
)
test_a_part_of_any_file_is_read_as_the_whole = pytest.mark.more(
    settings(max_examples=300, deadline=None)(given(*A_FILE)(a_part_is_read_as_the_whole))
)


def test_text_that_training_knew_as_text_stays() -> None:
    rows = pd.DataFrame({"zip": ["01", "1", "A1", "TRUE"] * 3})
    fitted = preprocessing.fit(preprocessing.build([], ["zip"], 50), rows, "rows")
    assert list(fitted.get_feature_names_out()) == ["zip_01", "zip_1", "zip_A1", "zip_TRUE"]
    X = preprocessing.transform(fitted, pd.DataFrame({"zip": ["01", "1", "TRUE", "1.0", "True"]}), "rows")
    assert X.argmax(axis=1).tolist() == [0, 1, 3, 1, 0]
    assert X.sum(axis=1).tolist() == [1, 1, 1, 1, 0]


@pytest.mark.more
def test_memory_does_not_grow_with_the_file(folder: Path) -> None:
    # A child's peak begins at that of whoever starts it, which of pytest hides its own: a small process starts it.
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = [sys.executable, "-c", code, str(Path(sys.executable).with_name("alphard")), "predict", "run"]
    peaks = []
    for times in (100, 1000):
        pd.concat([frame()] * times).to_csv("many.csv", index=False)
        line = [*command, "many.csv", "out=out.csv", "overwrite=true", "keep=all"]
        peaks.append(int(subprocess.run(line, env=environment(), capture_output=True, check=True).stdout))
    assert Path("out.csv").read_bytes().count(b"\n") == 1000 * ROWS + 1
    assert peaks[1] < 1.25 * peaks[0]


# What is written


def test_columns_that_are_kept_stand_as_they_stood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv("rows.csv", dtype=str, keep_default_na=False).head(3)
    rows["floor"] = ["3.0", "NA", "03"]
    rows.to_csv("few.csv", index=False)
    assert Said(capsys, "run", "few.csv", "out=a.csv", "keep=[town,id,floor]").status == 0
    found = pd.read_csv("a.csv", dtype=str, keep_default_na=False)
    names = [f"probability_{name}" for name in ("flat", "house", "tent")]
    assert list(found) == ["town", "id", "floor", "prediction", *names]
    assert found[["town", "id", "floor"]].equals(rows[["town", "id", "floor"]])
    assert Said(capsys, "run", "few.csv", "out=b.csv", "keep=all").status == 0
    assert list(pd.read_csv("b.csv"))[: len(rows.columns)] == list(rows)
    assert Said(capsys, "run", "few.csv", "out=c.csv").status == 0
    assert list(pd.read_csv("c.csv")) == ["prediction", *names]


def test_every_format_and_place_gets_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame().to_parquet("rows.parquet")
    outs = ["new/out.csv", "out.csv.gz", "out.parquet", "memory://test_predict/out.csv"]
    for rows in ("rows.csv", "rows.parquet"):
        for out in outs:
            done = Said(capsys, "run", rows, f"out={out}", "keep=[id,floor]", "overwrite=true")
            assert done.status == 0, done.err
            assert f"predictions: {out}" in done.out
        Path("fetched.csv").write_bytes(fsspec.filesystem("memory").cat_file("/test_predict/out.csv"))
        expected = written(Path("new/out.csv"))
        for name in ("out.csv.gz", "out.parquet", "fetched.csv"):
            found = written(Path(name)).astype({"id": "str"})
            assert found["id"].tolist() == [f"{i:05d}" for i in range(ROWS)]
            assert found["prediction"].tolist() == expected["prediction"].tolist()
            assert probabilities(found).tobytes() == probabilities(expected).tobytes()
        assert "3," in Path("new/out.csv").read_text()
        assert "3.0," not in Path("new/out.csv").read_text()


def test_the_summary_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Said(capsys, "run", "rows.csv", "out=out.csv")
    counts = written(Path("out.csv"))["prediction"].value_counts()
    assert f"rows: {ROWS}" in done.out
    assert "predicted: " + ", ".join(f"{name} {counts.get(name, 0)}" for name in ("flat", "house", "tent")) in done.out
    assert done.err == ""
    pd.read_csv("rows.csv").drop(columns=["kind"]).to_csv("new.csv", index=False)
    assert "accuracy" not in Said(capsys, "run", "new.csv", "out=new_out.csv").out
    rows = pd.read_csv("rows.csv")
    rows.loc[rows.index[10:], "kind"] = None
    rows.to_csv("part.csv", index=False)
    assert "on the 10 rows that have kind" in Said(capsys, "run", "part.csv", "out=part_out.csv").out


# New categories and gaps


def test_a_new_category_is_told_once_and_predicted(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 50)
    rows = frame()
    rows.loc[::10, "town"] = [f"town {i}" for i in range(ROWS // 10)]
    rows.loc[7, "zip"] = "99"
    rows.to_csv("new.csv", index=False)
    done = Said(capsys, "run", "new.csv", "out=out.csv")
    assert done.status == 0
    (line,) = done.err.splitlines()
    assert line.startswith("warning: categories that training did not know")
    assert "town in 40 rows (town 0, town 1, town 2, …)" in line
    assert "zip in 1 row (99)" in line
    assert len(written(Path("out.csv"))) == ROWS


def test_a_file_of_gaps_is_predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = frame(5)
    rows[["age", "rooms", "floor", "zip", "town", "owner"]] = None
    rows.to_csv("gaps.csv", index=False)
    assert Said(capsys, "run", "gaps.csv", "out=out.csv").status == 0
    assert written(Path("out.csv")).notna().all(axis=None)


# Rows that cannot be predicted


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, ["rows: none.csv does not exist"]),
        ("empty.csv", "", ["rows: empty.csv is empty"]),
        ("header.csv", "age,rooms,floor,zip,town,owner\n", ["rows: header.csv has a header and no rows"]),
        ("other.csv", "a;b\n1;2\n", ["one column, 'a;b'; set separator='\";\"'"]),
        ("ragged.csv", "age,rooms,floor,zip,town,owner\n1,1,1,1,1,1\n1,2,3,4,5,6,7\n", ["line 3 has 7 fields", "set separator"]),
        ("latin.csv", "age,rooms,floor,zip,town,owner\n1,1,1,1,M\u00fcnchen,1\n".encode("cp1252"), ["is not utf-8", "set encoding=cp1252"]),
        ("torn.parquet", "PAR1 and no more", ["torn.parquet cannot be read"]),
        ("few.csv", "Age,rooms,zip,towns\n1,2,3,4\n", ["age (did you mean `Age`?), floor, town (did you mean `towns`?), owner", "Its columns are Age, rooms, zip, towns"]),
        ("text.csv", "age,rooms,floor,zip,town,owner\n1,1,1,1,1,1\nold,1,1,1,1,1\n", ["column age, row 2: 'old' is no number"]),
        ("inf.csv", "age,rooms,floor,zip,town,owner\ninf,1,1,1,1,1\n", ["column age holds inf"]),
        ("rows.npz", b"PK no zip", ["rows: rows.npz is not a whole npz file"]),
    ],
)  # fmt: skip
def test_rows_that_make_no_sense_are_one_error_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes | None, words: list[str]
) -> None:
    if content is not None:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    before = left(folder)
    done = Said(capsys, "run", name, "out=new/out.csv")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in words), done.err
    assert left(folder) == before
    assert not Path("new").exists() or not [*Path("new").iterdir()]


def test_a_word_among_numbers_is_named_by_its_row_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 50)
    rows = frame().astype({"age": object})
    rows.loc[123, "age"] = "old"
    for name in ("old.csv", "old.parquet"):
        rows.to_csv(name, index=False) if name.endswith("csv") else rows.astype({"age": str}).to_parquet(name)
        done = Said(capsys, "run", name, "out=out.csv")
        assert done.status == 2
        assert "rows: column age, row 124: 'old' is no number" in done.err
        assert not Path("out.csv").exists()


def test_a_stop_in_the_middle_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 50)
    forward, calls = predict.Predictor.logits, []

    def stopped(self: Any, X: Any) -> Any:
        calls.append(len(X))
        if len(calls) == 3:
            raise Interrupted(2)
        return forward(self, X)

    monkeypatch.setattr(predict.Predictor, "logits", stopped)
    Path("out.csv").write_text("precious")
    before = left(folder)
    assert Said(capsys, "run", "rows.csv", "out=out.csv", "overwrite=true").status == 130
    assert left(folder) == before
    assert Path("out.csv").read_text() == "precious"


# The line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no path: give a run's folder and a file of rows"),
        (["run", "out=out.csv"], "alphard predict: run: give a run's folder and a file"),
        (["run", "rows.csv", "more.csv", "out=out.csv"], "run rows.csv more.csv: give"),
        (["run", "rows.csv"], "out: is missing; give out=…"),
        (["run", "rows.csv", "ouut=out.csv"], "ouut: alphard predict has no such setting; did you mean `out`?"),
        (["run", "rows.csv", "--out", "out.csv"], "--out: alphard predict takes two paths and key=value"),
        (["run", "rows.csv", "out=rows.csv", "overwrite=true"], "out: rows.csv: is the file of the rows"),
        (["run", "rows.csv", "out=run/../rows.csv"], "out: run/../rows.csv: is the file of the rows"),
        (["run", "rows.csv", "out=run"], "out: run: is a folder"),
        (["run", "rows.csv", "out=new/"], "out: new/: is a folder"),
        (["run", "rows.csv", "out=run/model.pt"], "out: run/model.pt: is written as CSV (.csv, .csv.gz) or Parquet (.parquet)"),
        (["run", "rows.csv", "out=out.xlsx"], "out: out.xlsx: is written as CSV (.csv, .csv.gz) or Parquet"),
        (["run", "rows.csv", "out=rows.csv/out.csv"], "cannot be written"),
        (["run", "rows.csv", "out=out.csv", "overwrite=yes"], "overwrite: 'yes': should be a valid boolean"),
        (["run", "rows.csv", "out=out.csv", "keep=[idd,town]"], "keep: rows.csv has no column idd (did you mean `id`?)"),
        (["run", "rows.csv", "out=out.csv", "encoding=latin9000"], "latin9000"),
        (["nowhere", "rows.csv", "out=out.csv"], "nowhere holds no run, for it has no config.yaml; give the folder"),
        (["run/model.pt", "rows.csv", "out=out.csv"], "run/model.pt lies under a file; give a folder"),
    ],
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_one_error(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = left(folder)
    done = Said(capsys, *words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert left(folder) == before


def test_a_kept_column_that_is_named_as_a_prediction_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame().assign(prediction=1, probability_tent=2).to_csv("rows.csv", index=False)
    done = Said(capsys, "run", "rows.csv", "out=out.csv", "keep=all")
    assert done.status == 2
    assert "keep: prediction: is also the name" in done.err
    assert "keep: probability_tent: is also the name" in done.err
    assert Said(capsys, "run", "rows.csv", "out=out.csv", "keep=id").status == 0


def test_a_file_of_another_form_is_read_as_the_line_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Said(capsys, "run", "rows.csv", "out=a.csv")
    assert expected.status == 0
    frame().to_csv("other.txt", index=False, sep=";", decimal=",", encoding="utf-16")
    form = ("separator=;", "decimal=,", "encoding=utf-16")
    assert Said(capsys, "run", "other.txt", "out=b.csv", *form).status == 0
    assert Said(capsys, "run", "other.txt", "out=c.csv", "separator=';'", *form[1:]).status == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes() == Path("c.csv").read_bytes()


# The run


def spoil(path: str, content: bytes | None) -> None:
    if content is None:
        Path(path).unlink()
    else:
        Path(path).write_bytes(content)


def other_weights() -> bytes:
    content = io.BytesIO()
    torch.save({"net.layers.0.weight": torch.zeros(3, 3)}, content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metrics.json", None, ["is not finished, for it has no metrics.json; its own line trains it"]),
        ("metrics.json", b"{", ["metrics.json: is not what a run writes: line 1: no JSON", "overwrite=true"]),
        ("metrics.json", b"{}", ["metrics.json does not say features, classes and feature_names"]),
        ("model.pt", None, ["model.pt is missing; overwrite=true trains it again"]),
        ("model.pt", b"torn", ["model.pt does not fit this model", "overwrite=true"]),
        ("model.pt", other_weights(), ["model.pt does not fit this model", "overwrite=true"]),
        ("preprocessing.skops", b"torn", ["preprocessing.skops is no whole preprocessing.skops"]),
        ("config.yaml", b"a: [", ["config.yaml: is not what a run writes: line 2: no YAML", "overwrite=true"]),
        ("config.yaml", b"[1]", ["config.yaml: is not what a run writes: it holds a list alone"]),
        ("config.yaml", b"seed: 1", ["config.yaml: model: is missing"]),
    ],
)
def test_a_run_that_is_not_whole_is_one_error(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, words: list[str]
) -> None:
    spoil(f"run/{name}", content)
    done = Said(capsys, "run", "rows.csv", "out=out.csv")
    assert (done.status, done.out) == (2, "")
    assert all(word in done.err for word in words), done.err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "where", ["model._target_", "model.net._target_", "data._target_", "callbacks.early_stopping._target_"]
)
def test_a_target_that_no_run_may_have_is_refused_before_it_is_imported(
    folder: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    (folder / "sprung_trap.py").write_text("open('sprung', 'w')\nclass Net: pass\n")
    config = OmegaConf.load("run/config.yaml")
    OmegaConf.update(config, where, "sprung_trap.Net")
    OmegaConf.save(config, "run/config.yaml")
    sys.path.insert(0, str(folder))
    try:
        done = Said(capsys, "run", "rows.csv", "out=out.csv")
    finally:
        sys.path.remove(str(folder))
    assert done.status == 2
    assert f"{where}: sprung_trap.Net is not trusted" in done.err
    assert not Path("sprung").exists()


def test_a_preprocessing_that_could_run_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch sprung",)

    fitted = preprocessing.loads(Path("run/preprocessing.skops").read_bytes())
    fitted.trap = Trap()
    Path("run/preprocessing.skops").write_bytes(preprocessing.dumps(fitted))
    done = Said(capsys, "run", "rows.csv", "out=out.csv")
    assert done.status == 2
    assert "preprocessing.skops holds types that could run code" in done.err
    assert not Path("sprung").exists()


def test_what_is_not_set_here_and_not_needed_does_not_matter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = OmegaConf.load("run/config.yaml")
    config.data.path, config.trainer.default_root_dir = "${oc.env:NOT_SET_HERE}/rows.csv", "${oc.env:NOR_THIS}"
    OmegaConf.save(config, "run/config.yaml")
    assert Said(capsys, "run", "rows.csv", "out=out.csv").status == 0
    config.learning_rate = "${oc.env:NOT_SET_HERE}"
    OmegaConf.save(config, "run/config.yaml")
    done = Said(capsys, "run", "rows.csv", "out=out2.csv")
    assert done.status == 2
    assert "NOT_SET_HERE" in done.err


def test_a_study_means_its_winner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = folder / "studies/mine-mlp"
    shutil.copytree("run", study / "trials/0")
    (study / "study.yaml").write_text("{}")
    done = Said(capsys, "studies/mine-mlp", "rows.csv", "out=out.csv")
    assert done.status == 2
    assert "is a study without a winner; `alphard retrain studies/mine-mlp` makes one" in done.err
    assert Said(capsys, "studies/mine-mlp/trials/0", "rows.csv", "out=trial.csv").status == 0
    shutil.copytree("run", study / "winner")
    assert Said(capsys, "studies/mine-mlp/", "rows.csv", "out=winner.csv").status == 0
    assert Path("winner.csv").read_bytes() == Path("trial.csv").read_bytes()


def test_a_run_is_read_from_a_url(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = fsspec.filesystem("memory")
    for path in Path("run").iterdir():
        memory.pipe_file(f"/test_predict/run/{path.name}", path.read_bytes())
    memory.pipe_file("/test_predict/rows.csv", Path("rows.csv").read_bytes())
    assert Said(capsys, "memory://test_predict/run/", "memory://test_predict/rows.csv", "out=a.csv").status == 0
    assert Said(capsys, "run", "rows.csv", "out=b.csv").status == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


# Runs on other data, and own models


def test_built_in_data_takes_its_columns_as_they_were_and_ready_arrays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.chdir(tmp_path)
    config = config_of("epochs=1", "trainer=cpu")
    run_here(tmp_path / "run", "epochs=1", "trainer=cpu", lean=True)
    data = build.data_of(config)
    bunch = load_digits()
    rows = data.divide(bunch.target)[1]
    pd.DataFrame(bunch.data, columns=bunch.feature_names).iloc[rows].to_csv("raw.csv", index=False)
    np.savez("ready.npz", X_val=data.splits.validation.X, y_val=data.splits.validation.y)
    for name in ("raw.csv", "ready.npz"):
        done = Said(capsys, "run", name, f"out={name}.parquet")
        assert done.status == 0, done.err
    found = written(Path("raw.csv.parquet"))
    assert probabilities(found).tobytes() == probabilities(written(Path("ready.npz.parquet"))).tobytes()
    right = (found["prediction"].to_numpy() == bunch.target[rows].astype(str)).mean()
    assert right == pytest.approx(json.loads(Path("run/metrics.json").read_text())["validation_accuracy"])
    assert "no columns to keep" in Said(capsys, "run", "ready.npz", "out=x.csv", "keep=all").err
    np.savez("narrow.npz", X=np.zeros((3, 7)))
    assert "X has 7 features and the network takes 64" in Said(capsys, "run", "narrow.npz", "out=x.csv").err
    pd.DataFrame({name: [None] for name in bunch.feature_names}).to_csv("gaps.csv", index=False)
    assert "column pixel_0_0, row 1: is missing" in Said(capsys, "run", "gaps.csv", "out=x.csv").err


def test_arrays_without_preprocessing_come_as_columns_or_arrays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "up", "down")
    np.savez("t.npz", X_train=X, y_train=y)
    np.savez("v.npz", X_val=X, y_val=y)
    run_here(tmp_path / "run", "data=npz", "data.train=t.npz", "data.validation=v.npz", "epochs=1", "trainer=cpu")
    pd.DataFrame(X, columns=["x0", "x1", "x2"]).to_csv("rows.csv", index=False)
    for name in ("rows.csv", "v.npz"):
        assert Said(capsys, "run", name, f"out={name}.csv").status == 0
    assert Path("rows.csv.csv").read_bytes() == Path("v.npz.csv").read_bytes()
    assert list(written(Path("v.npz.csv"))) == ["prediction", "probability_down", "probability_up"]


OWN = """
import torch
from alphard.models import Classifier

class Scaled(Classifier):
    def __init__(self, factor: float, class_counts: list[int], **more):
        super().__init__(**more)
        self.prior = torch.tensor(class_counts).log() * factor  # no buffer: it is not among the weights

    def forward(self, x):
        return self.net(x) + self.prior

class Silent(Classifier):
    def forward(self, x):
        return self.net(x).argmax(1)
"""


@pytest.mark.more
def test_an_own_model_predicts_and_one_without_logits_is_told(tmp_path: Path) -> None:
    copied(tmp_path, "src", "configs", "pyproject.toml", "train.py")
    (tmp_path / "src/mine").mkdir()
    (tmp_path / "src/mine/__init__.py").write_text(OWN)
    frame().to_csv(tmp_path / "rows.csv", index=False)
    env = environment(PYTHONPATH=str(tmp_path / "src"))

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    line = (*CSV, "data.path=rows.csv", "data.drop=[id]", "threads=1", "epochs=1")
    own = {"Scaled": ["+model.factor=0.5"], "Silent": []}
    for name, more in own.items():
        done = call("train.py", *line, f"model._target_=mine.{name}", *more, f"output_dir={name}")
        assert done.returncode == 0, done.stderr
    alphard = "import sys; from alphard.cli import main; sys.exit(main())"
    done = call("-c", alphard, "predict", "Scaled", "rows.csv", "out=out.csv")
    assert done.returncode == 0, done.stderr
    assert len(written(tmp_path / "out.csv")) == ROWS
    done = call("-c", alphard, "predict", "Silent", "rows.csv", "out=silent.csv")
    assert done.returncode == 2
    assert "Silent.forward returned (400,); it takes logits, (400, 3)" in done.stderr
    assert not (tmp_path / "silent.csv").exists()
