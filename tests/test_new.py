"""`alphard new`: a file of rows becomes an experiment that trains at once."""

import resource
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alphard.cli import main
from alphard.compose import compose, must_be_sound
from alphard.construct import instantiate
from alphard.data import leaks
from alphard.experiment_file import one_line, scalar
from tests.conftest import ROOT, copied, run_train

ROWS = 400


def rows(n: int = ROWS) -> pd.DataFrame:
    """A column of each kind that `new` tells apart."""
    random = np.random.default_rng(0)
    label = np.where(np.arange(n) % 5 < 2, "yes", "no")
    age = random.normal(40, 10, n).round(1) + (label == "yes") * 5
    age[::7] = np.nan
    town = random.choice(["Aix", "Bonn", "Cork"], n).astype(object)
    town[::9] = None
    return pd.DataFrame(
        {
            "id": random.permutation(n) + 7,
            "age": age,
            "again": age,
            "rooms": random.integers(0, 30, n),
            "grade": random.integers(1, 4, n),
            "town": town,
            "owner": random.choice([True, False], n),
            "who": [f"Ms {i}" for i in range(n)],
            "remark": [f"said that {i} of them had been here before, on day {i % 90}" for i in range(n)],
            "since": [f"20{10 + i % 14}-0{1 + i % 9}-1{i % 10}" for i in range(n)],
            "day": 20200101 + np.arange(n) % 28,
            "void": np.nan,
            "same": "x",
            "refund": np.where(label == "yes", random.normal(50, 1, n), random.normal(0, 1, n)),
            "code": np.where(label == "yes", "Y", "N"),
            "label": label,
        }
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, and in it rows.csv."""
    monkeypatch.chdir(copied(tmp_path, "configs"))
    rows().to_csv("rows.csv", index=False)
    return tmp_path


def experiment(name: str) -> Any:
    config = compose(Path("configs"), [f"experiment={name}", "threads=1"])
    must_be_sound(config)
    return config


def trained_on(name: str) -> Any:
    """The splits that an experiment trains on; a warning is an error here as in all tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return instantiate(experiment(name).data).splits


def written(name: str) -> str:
    return Path(f"configs/experiment/{name}.yaml").read_text()


TREATED = {
    "numeric": {"age": "14.5% missing", "rooms": "whole numbers; 30 values"},
    "categorical": {"grade": "codes", "town": "11.2% missing", "owner": "true or false"},
    "drop": {
        "id": "every row, as a key",
        "again": "repeats age",
        "who": "as a key or a name",
        "remark": "free text",
        "since": "dates",
        "day": "dates as whole numbers",
        "void": "empty",
        "same": "one value",
        "refund": "of the errors on held-out rows",
        "code": "label by another name",
    },
}


@pytest.mark.parametrize("kind", ["csv", "parquet", "url"])
def test_each_column_has_its_treatment_and_the_reason(
    project: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "rows.csv"
    if kind == "parquet":
        path = "rows.parquet"
        rows().to_parquet(path)
    if kind == "url":
        import fsspec

        path = "memory://new/rows.csv"
        with fsspec.open(path, "w") as file:
            file.write(Path("rows.csv").read_text())
    assert main(["new", path, "target=label", "name=mine"]) == 0
    data, said = experiment("mine").data, capsys.readouterr().out
    comments = {line.split("#")[0].strip(" -"): line for line in written("mine").splitlines() if "    - " in line}
    for treatment, columns in TREATED.items():
        assert sorted(data[treatment]) == sorted(columns)
        for name, reason in columns.items():
            assert reason in comments[name]
            assert name in said
    assert data.path == path
    for name in ("since", "day", "remark", "refund", "code"):
        assert f"suspicious: {name}: " in said
    assert "no: 240 rows (60.0%); yes: 160 rows (40.0%)" in written("mine")
    assert said.splitlines()[-2:] == [
        "next: python train.py experiment=mine",
        "then: python train.py experiment=mine search=mlp",
    ]
    assert len(trained_on("mine").train) == 320


def test_what_was_written_trains_without_a_warning(project: Path) -> None:
    assert main(["new", "rows.csv", "target=label"]) == 0
    done = run_train(ROOT, f"--config-dir={project}/configs", "experiment=rows", f"data.path={project}/rows.csv",
                     "epochs=2", "threads=1", f"output_dir={project}/out")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith("validation_accuracy: ")


def test_nothing_is_overwritten_unless_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "rows.csv", "target=label"]) == 0
    mine = Path("configs/experiment/rows.yaml")
    mine.write_text("# mine\n")
    assert main(["new", "rows.csv", "target=label"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert mine.read_text() == "# mine\n"
    assert main(["new", "rows.csv", "target=label", "overwrite=true"]) == 0
    assert "target: label" in mine.read_text()
    assert not [path for path in mine.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows.csv"], "target: is missing; give target=COLUMN; these hold a few classes each: label, "),
        (["rows.csv", "targt=label"], "targt: alphard new has no such setting; did you mean `target`?"),
        (["rows.csv", "target=lable"], "data.target: no column lable; did you mean `label`?"),
        (["rows.csv", "target=town"], "data.target: town is missing in 45 of 400 rows; drop those rows"),
        (["rows.csv", "target=same"], "data.target: only one class, x"),
        (["rows.csv", "target=who"], "data.target: who has 400 different values in 400 rows"),
        (["rows.csv", "target=refund"], "labels are classes, not measurements"),
        (["rows.csv", "target=label", "name=../x"], "name: '../x': give a letter"),
        (["rows.csv", "target=label", "name=null"], "name: null: experiment=null would mean something else"),
        (["rows.csv", "target=label", "name=titanic"], "titanic.yaml is there already"),
        (["rows.csv", "target=label", "overwrite=maybe"], "overwrite: 'maybe': should be a valid boolean"),
        (["rows.csv", "target=label", "target=age"], "target: given twice"),
        (["rows.csv", "target=label", "separator="], "separator: is empty"),
        (["rows.csv", "--target", "label"], "--target: alphard new takes a path and key=value alone"),
        (["rows.csv", "more.csv", "target=label"], "give one file"),
        (["target=label"], "no path: give one file"),
        (["nowhere.csv", "target=label"], "data.path: nowhere.csv does not exist"),
        (["configs", "target=label"], "data.path: configs is a folder"),
        (["empty.csv", "target=label"], "data.path: empty.csv is empty"),
        (["alone.csv", "target=label"], "no column beside label is left to learn from"),
    ],
)
def test_what_makes_no_sense_is_told_and_nothing_written(
    project: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.csv").write_text("")
    rows()[["label", "void"]].to_csv("alone.csv", index=False)
    before = sorted(Path("configs/experiment").iterdir())
    assert main(["new", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert sorted(Path("configs/experiment").iterdir()) == before


def test_it_is_called_in_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "rows.csv", "target=label"]) == 2
    assert "configs/config.yaml" in capsys.readouterr().err


AWKWARD = ["a b", "a,b", "a: b", 'say "x"', "it's", "${seed}", r"\${x}", "- dash", "-1", "é ü", "no", "1e5", "null",
           "1_000", "0x1F", "[x]", "{x}", "# hash", "two\nlines", "tab\there", "@", "*", "=", "", " ", "~", "\\"]  # fmt: skip


def test_awkward_names_and_values_are_said_exactly(project: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=ROWS) for name in AWKWARD})
    frame["the: target\n${x}"] = np.where(np.arange(ROWS) % 2, "a: # b\nc", "${y}")
    frame.to_parquet("awkward ${x}.parquet")
    assert main(["new", "awkward ${x}.parquet", "target=the: target\n${x}", "name=awkward"]) == 0
    data = OmegaConf.to_container(experiment("awkward").data, resolve=True)
    assert isinstance(data, dict)
    assert data["numeric"] == AWKWARD
    assert data["target"] == "the: target\n${x}"
    assert trained_on("awkward").train.X.shape[1] == len(AWKWARD)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "???"))
def test_any_text_is_read_back_and_its_comment_is_one_line(text: str) -> None:
    line = f"x: [{scalar(text)}]    # {one_line(text)}"
    assert OmegaConf.create(line).x[0] == text
    assert len(line.splitlines()) == 1


def test_a_separator_and_a_decimal_comma_are_found(project: Path) -> None:
    rows().to_csv("semicolons.csv", index=False, sep=";", decimal=",")
    assert main(["new", "semicolons.csv", "target=label"]) == 0
    data = experiment("semicolons").data
    assert (data.separator, data.decimal) == (";", ",")
    assert "age" in data.numeric
    rows().to_csv("tabs.csv", index=False, sep="\t")
    assert main(["new", "tabs.csv", "target=label", r"separator=\t"]) == 0
    assert trained_on("tabs").train.X.shape == trained_on("semicolons").train.X.shape


def test_where_one_class_dominates_the_classes_count_alike(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = rows(2000)[["age", "rooms", "town"]]
    frame["label"] = np.arange(2000) % 20 == 0
    frame.to_csv("rare.csv", index=False)
    assert main(["new", "rare.csv", "target=label"]) == 0
    config = experiment("rare")
    assert config.objective == config.callbacks.best_weights.monitor == "validation_balanced_accuracy"
    assert config.model.class_weights == "balanced"
    assert capsys.readouterr().out.rstrip().endswith("search.objective=validation_balanced_accuracy")


@pytest.mark.parametrize(("n", "test"), [(60, 0.0), (400, 0.0), (2000, 0.2)])
def test_fractions_fit_the_rows(project: Path, n: int, test: float) -> None:
    rows(n).to_csv("sized.csv", index=False)
    assert main(["new", "sized.csv", "target=label"]) == 0
    assert experiment("sized").data.test_fraction == test
    splits = trained_on("sized")
    assert {*splits.train.y} == {*splits.validation.y} == {0, 1}


def test_a_small_class_goes_without_a_test_split(project: Path) -> None:
    frame = rows(2000)[["age", "town", "label"]]
    frame.loc[:1, "label"] = "rare"
    frame.to_csv("rare.csv", index=False)
    assert main(["new", "rare.csv", "target=label"]) == 0
    assert trained_on("rare").train.y.max() == 2
    frame.loc[2, "label"] = "rare"
    frame.to_csv("rare.csv", index=False)
    assert main(["new", "rare.csv", "target=label", "overwrite=true"]) == 0
    assert trained_on("rare").train.y.max() == 2


def test_a_key_tells_nothing_and_a_leak_nearly_all() -> None:
    random = np.random.default_rng(0)
    y = (random.random(4000) < 0.1).astype(np.int64)
    assert leaks.told_by(pd.Series(random.permutation(4000)), y, 2) < 0.05
    assert leaks.told_by(pd.Series(random.permutation(4000)).astype(str), y, 2) <= 0
    assert leaks.told_by(pd.Series(y + random.random(4000) / 2), y, 2) == 1
    texts = pd.Series(np.where(y == 1, "won", random.choice(["lost", "drawn"], 4000)))
    assert leaks.told_by(texts, y, 2) == 1
    texts[random.permutation(4000)[:100]] = None
    assert 0.8 < leaks.told_by(texts, y, 2) < 1


@pytest.mark.more
def test_a_million_rows_take_less_than_half_a_minute(project: Path) -> None:
    n, random = 1_000_000, np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(n, 8)).round(4), columns=list("abcdefgh"))
    frame["label"] = np.where(frame.a + frame.b * frame.c > 0, "yes", "no")
    frame["id"] = np.arange(n)
    for name, values in (("town", 40), ("plan", 3), ("grade", 8), ("product", 20_000)):
        frame[name] = pd.Series(random.integers(0, values, n)).map("{:05d}x".format)
    frame["remark"] = [f"what customer {i} said of product {i % 97} on that day" for i in range(n)]
    frame["since"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 10**8, n), unit="s")
    for name in ("b", "e", "town", "plan"):
        frame.loc[random.random(n) < 0.1, name] = np.nan
    frame.to_csv("million.csv", index=False)
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert main(["new", "million.csv", "target=label"]) == 0
    assert min(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_utime - used) < 30
    data = experiment("million").data
    assert (data.validation_fraction, data.test_fraction) == (0.1, 0.1)
    assert list(data.drop) == ["id", "product", "remark", "since"]
