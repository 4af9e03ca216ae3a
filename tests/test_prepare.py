"""`alphard prepare`: rows prepared once, and the line that trains on them to bitwise the same weights."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphard import prepared
from alphard.cli import main
from alphard.data import Npz, preprocessing
from alphard.errors import Interrupted, UserError
from tests.conftest import ROOT, environment, run_train
from tests.in_process import run_here
from tests.vertex.bucket import Bucket, bucket, emulator

__all__ = ["bucket", "emulator"]  # fixtures

TITANIC = ("experiment=titanic", "data.path=rows.csv")
FAST = ("threads=1", "epochs=2", "trainer=cpu")


def passengers(rows: int = 200) -> pd.DataFrame:
    """Rows with the columns of configs/experiment/titanic.yaml."""
    random = np.random.default_rng(0)
    age = random.normal(30, 12, rows).round(1)
    return pd.DataFrame(
        {
            "PassengerId": range(rows),
            "Survived": (age + random.normal(0, 8, rows) > 30).astype(int),
            "Pclass": random.integers(1, 4, rows),
            "Name": [f"Passenger, Mr. {i}" for i in range(rows)],
            "Sex": random.choice(["male", "female"], rows),
            "Age": np.where(random.random(rows) < 0.2, np.nan, age),
            "SibSp": random.integers(0, 3, rows),
            "Ticket": "A/5",
            "Fare": random.gamma(2, 15, rows).round(4),
            "Cabin": None,
            "Embarked": random.choice(["S", "C", None], rows),
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with rows.csv, and the working directory."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    passengers().to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Said:
    """What `alphard prepare` left: its status, stdout and stderr, and the overrides of the line that it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        capsys.readouterr()
        self.status = main(["prepare", *words])
        self.out, self.err = capsys.readouterr()
        last = self.out.splitlines()[-1] if self.out else ""
        assert not last or last.startswith("python train.py ")
        self.line = shlex.split(last)[2:]


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".skops"}


# The same weights


@pytest.mark.parametrize(
    "words",
    [
        (*TITANIC, "data.fraction=0.5", "data.split_seed=3", "data.test_fraction=0.2", "score_test=true"),
        ("data=breast_cancer", "data.fraction=0.3"),
        ("data=synthetic", "data.rows=500", "model=linear"),
    ],
)
def test_the_printed_line_trains_bitwise_the_same_weights(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    done = Said(capsys, *words, *FAST, "out=a folder's, {own} $name")
    assert done.status == 0, done.err
    assert {*words, *FAST} - {word for word in words if word.startswith("data")} <= {*done.line}
    run_here(folder / "before", *words, *FAST, lean=True)
    run_here(folder / "after", *done.line, lean=True)
    assert (folder / "before/model.pt").read_bytes() == (folder / "after/model.pt").read_bytes()
    there, here = (json.loads((folder / f"{name}/metrics.json").read_text()) for name in ("before", "after"))
    aside = ("model_uri", "resolved_sha256")
    assert {k: v for k, v in there.items() if k not in aside} == {k: v for k, v in here.items() if k not in aside}
    assert (folder / "after/preprocessing.skops").exists() == (folder / "before/preprocessing.skops").exists()


def test_text_labels_and_arrays_of_a_users_own_are_prepared_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "up", "a, b")
    np.savez("t.npz", X_train=X, y_train=y)
    np.savez("v.npz", X_val=X, y_val=y)
    line = ("data=npz", "data.train=t.npz", "data.validation=v.npz", *FAST)
    done = Said(capsys, *line, "out=prepared")
    run_here(folder / "before", *line, lean=True)
    run_here(folder / "after", *done.line, lean=True)
    assert (folder / "before/model.pt").read_bytes() == (folder / "after/model.pt").read_bytes()
    assert json.loads((folder / "after/metrics.json").read_text())["classes"] == ["a, b", "up"]


def test_a_run_on_prepared_rows_predicts_the_users_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Said(capsys, *TITANIC, *FAST, "out=prepared")
    run_here(folder / "before", *TITANIC, *FAST, lean=True)
    run_here(folder / "after", *done.line, lean=True)
    for run in ("before", "after"):
        assert main(["predict", run, "rows.csv", f"out={run}.csv", "keep=[PassengerId]"]) == 0
    assert Path("before.csv").read_bytes() == Path("after.csv").read_bytes()


@pytest.mark.more
def test_the_line_works_in_a_shell_in_a_container_and_with_a_bucket(
    folder: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.folder("data").write("rows.csv", Path("rows.csv").read_bytes())
    words = ("experiment=titanic", f"data.path={bucket.uri('data/rows.csv')}", "data.test_fraction=0.2", *FAST)
    done = Said(capsys, *words, f"out={bucket.uri('prepared')}")
    assert done.status == 0, done.err
    again = Said(capsys, *words, f"out={bucket.uri('prepared')}")
    assert again.out == done.out
    assert bucket.folder("prepared").names() == sorted(
        ["prepared.json", "preprocessing.skops", "test.npz", "train.npz", "val.npz"]
    )
    line = done.out.splitlines()[-1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    called = {
        "shell": line.replace("train.py", str(ROOT / "train.py")),
        "container": line.replace("python train.py", str(ROOT / "convert_command.sh")),
    }
    before = run_train(folder, *words, "output_dir=before")
    assert before.status == 0, before.err
    for name, command in called.items():
        ran = subprocess.run(
            ["bash", "-c", f"{command} output_dir={folder / name}"],
            env=environment(PATH=path), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert (folder / name / "model.pt").read_bytes() == (folder / "before/model.pt").read_bytes()


# The folder


def test_the_same_line_again_leaves_the_same_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Said(capsys, *TITANIC, "out=prepared")
    before = held(folder / "prepared")
    assert {*before} == {"train.npz", "val.npz", "prepared.json"}
    again = Said(capsys, *TITANIC, "out=prepared/")
    assert (again.status, again.line) == (0, first.line)
    assert held(folder / "prepared") == before
    # A part of the training rows is for the run to take, from the same files.
    assert Said(capsys, *TITANIC, "data.fraction=0.5", "out=prepared").status == 0
    assert held(folder / "prepared") == before


def test_another_preparation_and_other_files_are_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Said(capsys, *TITANIC, "out=prepared")
    before = held(folder / "prepared")
    done = Said(capsys, *TITANIC, "data.split_seed=1", "out=prepared")
    assert (done.status, done.out) == (2, "")
    assert "holds the preparation of another config, or of other rows; give another folder, or overwrite" in done.err
    passengers(210).to_csv("rows.csv", index=False)
    assert Said(capsys, *TITANIC, "out=prepared").status == 2
    assert held(folder / "prepared") == before
    done = Said(capsys, *TITANIC, "out=prepared", "data.test_fraction=0.2", "overwrite=true")
    assert done.status == 0
    assert "overwrite=true" not in done.line
    assert {*held(folder / "prepared")} == {*before, "test.npz"}
    assert Said(capsys, *TITANIC, "out=prepared", "overwrite=true").status == 0
    assert {*held(folder / "prepared")} == {*before}  # a test split of before is not taken for this one's
    Path("mine").mkdir()
    Path("mine/val.npz").write_text("precious")
    done = Said(capsys, *TITANIC, "out=mine")
    assert done.status == 2
    assert "holds other files, or a preparation cut short (val.npz)" in done.err
    assert Path("mine/val.npz").read_text() == "precious"


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_preparation_that_is_cut_short_is_not_taken_for_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    save, calls = prepared._save, []

    def stopped(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == written:
            raise Interrupted(2)
        save(*arguments)

    monkeypatch.setattr(prepared, "_save", stopped)
    assert Said(capsys, *TITANIC, "data.test_fraction=0.2", "out=prepared").status == 130
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert not {"train.npz", "prepared.json"} & {*held(folder / "prepared")}
    done = Said(capsys, *TITANIC, "data.test_fraction=0.2", "out=prepared")
    assert "a preparation cut short" in done.err
    assert Said(capsys, *TITANIC, "data.test_fraction=0.2", "out=prepared", "overwrite=true").status == 0


# The words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (TITANIC, "out: is missing; give out=FOLDER or out=gs://…"),
        ((*TITANIC, "out="), "out: is missing"),
        ((*TITANIC, "out=rows.csv"), "out: rows.csv: is a file; give a folder"),
        ((*TITANIC, "out=rows.csv/new"), "cannot be written"),
        ((*TITANIC, "out=new", "overwrite=perhaps"), "overwrite: 'perhaps': should be true or false"),
        ((*TITANIC, "--out=new"), "--out=new: alphard prepare takes out=… and overrides alone"),
        ((*TITANIC, "out=new", "learning_rat=1"), "learning_rat: no such key; did you mean `learning_rate`?"),
        ((*TITANIC, "out=new", "epochs=0"), "epochs: 0: should be greater"),
        ((*TITANIC, "out=new", "search=mlp"), "search: prepare only prepares; say search=… on the line that it prints"),
        (("experiment=titanic", "out=new"), "data.path: is missing; give data.path=…"),
        ((*TITANIC, "out=new", "data.path=no.csv"), "data.path: no.csv does not exist"),
        ((*TITANIC, "out=new", "data.drop=[Nam]"), "data.drop: no column Nam; did you mean `Name`?"),
        ((*TITANIC, "out=nowhere://new"), "out: nowhere://new: nothing is known that opens nowhere://"),
        (("data=syntetic", "out=new"), "there is no option syntetic; did you mean `synthetic`?"),
    ],
)
def test_what_makes_no_sense_is_one_error_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    done = Said(capsys, *words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert not Path("new").exists()


def test_it_is_called_in_a_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = Said(capsys, *TITANIC, "out=new")
    assert done.status == 2
    assert "call alphard in the project's folder" in done.err


def test_an_experiment_that_refers_to_its_data_elsewhere_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Said(capsys, *TITANIC, "+note=${data.target}", "+callbacks.best_weights.note=${note}", "out=new")
    assert done.status == 2
    done = Said(capsys, *TITANIC, "model.label_smoothing=${data.validation_fraction}", "out=new")
    assert done.status == 2
    assert "the line that would train on the prepared rows is refused" in done.err
    assert not Path("new").exists()


# What Npz reads of it


def arrays(folder: Path, **train: Any) -> dict[str, str]:
    X, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6) % 2
    np.savez(folder / "t.npz", **({"X_train": X, "y_train": y} | train))
    np.savez(folder / "v.npz", X_val=X, y_val=y)
    return {"train": str(folder / "t.npz"), "validation": str(folder / "v.npz")}


def test_names_of_classes_and_features_are_read(tmp_path: Path) -> None:
    named = {"classes": np.array(["no", "yes", "never"]), "feature_names": np.array(["age", "fare"])}
    splits = Npz(**arrays(tmp_path, **named)).splits
    assert splits.classes == ["no", "yes", "never"]
    assert splits.feature_names == ["age", "fare"]
    plain = Npz(**arrays(tmp_path)).splits
    assert (plain.classes, plain.feature_names) == (["0", "1"], ["x0", "x1"])
    assert np.array_equal(plain.train.y, splits.train.y)


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ({"classes": np.array(["only", "two"]), "y_train": np.arange(6)}, "y_train does not fit the array classes"),
        ({"classes": np.array(["a", "b"]), "y_train": np.array(list("ababab"))}, "give whole numbers from 0 to 1"),
        ({"classes": np.array(["a", "b"]), "y_train": np.arange(6) % 2 - 1}, "y_train does not fit"),
        ({"classes": np.array([0, 1])}, "the array classes holds no texts"),
        ({"classes": np.array(["a", "a"])}, "the array classes has 2 names; give names that all differ"),
        ({"classes": np.array(["a"]), "y_train": np.zeros(6, dtype=int)}, "only one class"),
        ({"feature_names": np.array(["a"])}, "the array feature_names has 1 names; give 2 names"),
    ],
)
def test_names_that_do_not_fit_are_one_error(tmp_path: Path, train: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        Npz(**arrays(tmp_path, **train)).splits  # noqa: B018
    assert str(caught.value).startswith("data.train: ")
    assert problem in str(caught.value)


class Trap:
    """Runs code when it is unpickled or built."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo sprung",)


def test_a_preprocessing_that_does_not_fit_is_one_error(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    fits, other = StandardScaler().fit(np.eye(2)), StandardScaler().fit(np.eye(3))
    trapped = StandardScaler().fit(np.eye(2))
    trapped.trap = Trap()
    path = tmp_path / "preprocessing.skops"
    cases = [
        (preprocessing.dumps(other), "makes 3 features, and X has 2"),
        (preprocessing.dumps(trapped), "holds types that could run code"),
        (preprocessing.dumps({"a": 1}), "holds dict, which transforms nothing"),
        (preprocessing.dumps(fits)[:300], "is no whole preprocessing.skops"),
        (b"", "is no whole preprocessing.skops"),
    ]
    for content, problem in cases:
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            Npz(**arrays(tmp_path), preprocessing=str(path)).splits  # noqa: B018
        assert str(caught.value).startswith(f"data.preprocessing: {path}")
        assert problem in str(caught.value)
    path.write_bytes(preprocessing.dumps(fits))
    assert Npz(**arrays(tmp_path), preprocessing=str(path)).splits.preprocessing.n_features_in_ == 2
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    with pytest.raises(UserError, match=re.escape(f"data.preprocessing: {tmp_path}/none does not exist")):
        Npz(**arrays(tmp_path), preprocessing=f"{tmp_path}/none").splits  # noqa: B018
