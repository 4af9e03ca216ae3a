"""Files that are not what they should be, in every place where the subcommands read or write one."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from alphard import checkpoint
from alphard.cli import main
from alphard.errors import UserError
from alphard.storage import Folder
from tests.conftest import ROOT, environment
from tests.in_process import run_here

FILES = ("config.yaml", "metrics.json", "model.pt", "preprocessing.skops")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in `run`, and rows that it can predict."""
    folder = tmp_path_factory.mktemp("hostile")
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.random(200), "b": random.choice(["x", "y"], 200)})
    frame["y"] = np.where(frame.a > 0.5, "yes", "no")
    frame.to_csv(folder / "rows.csv", index=False)
    run_here(folder / "run", "data=csv", f"data.path={folder}/rows.csv", "data.target=y", "epochs=1")
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "place")
    shutil.copytree(ROOT / "configs", tmp_path / "place/configs")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("hurt", [pipe, folder, deep, binary])
def test_predict_names_a_file_that_is_none_of_a_runs(
    name: str, hurt: Callable[[Path], None], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hurt(place / "run" / name)
    assert main(["predict", "run", "rows.csv", "out=new.csv"]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert said.startswith("error: ")
    assert "weights_only" not in said
    assert not (place / "new.csv").exists()


@pytest.mark.parametrize("hurt", [pipe, folder, deep, binary])
@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "eval_history.csv"])
def test_results_names_a_file_that_is_none_of_a_runs(
    name: str, hurt: Callable[[Path], None], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hurt(place / "run" / name)
    assert main(["results", "run"]) == 2
    assert name in capsys.readouterr().err
    assert not (place / "run/report.html").exists()


@pytest.mark.parametrize(
    "out",
    [
        "run/model.pt",
        "run/config.yaml",
        "pipe.csv",
        "rows.csv",
        "new.exe",
        "x" * 300 + ".csv",
        "~nosuch/a.csv",
        "a\0.csv",
    ],
)
def test_predict_overwrites_nothing_but_predictions(out: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.csv")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main(["predict", "run", "rows.csv", f"out={out}", "overwrite=true"]) == 2
    assert "out: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert Path("pipe.csv").is_fifo()


def test_prepare_removes_nothing_that_it_reads(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data=csv", "data.path=rows.csv", "data.target=y", "out=prepared"]
    assert main(["prepare", *line]) == 0
    before = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    capsys.readouterr()
    arrays = ["data=npz", "data.train=prepared/train.npz", "data.validation=prepared/val.npz"]
    assert main(["prepare", *arrays, "out=prepared", "overwrite=true"]) == 2
    assert "holds data.train, prepared/train.npz; give another folder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("prepared").iterdir()} == before


def test_of_two_preparations_at_once_one_stands(place: Path) -> None:
    command = [str(Path(sys.executable).with_name("alphard")), "prepare", "data=csv", "data.path=rows.csv"]
    command += ["data.target=y", "out=prepared"]
    ended: dict[int, int] = {}

    def prepare(seed: int) -> None:
        line = [*command, f"data.split_seed={seed}"]
        ended[seed] = subprocess.run(line, cwd=place, env=environment(), capture_output=True, check=False).returncode

    threads = [threading.Thread(target=prepare, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended.values()) == [0, 2]


def test_twice_one_class_is_no_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads(Path("run/metrics.json").read_text())
    Path("run/metrics.json").write_text(json.dumps(metrics | {"classes": ["no", "no"]}))
    assert main(["predict", "run", "rows.csv", "out=new.csv"]) == 2
    assert "classes: two have one name" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["rows", "config", "epoch", "within", "metrics"])
def test_a_checkpoint_that_lacks_a_part_is_none(what: str, tmp_path: Path) -> None:
    from alphard.resume import _is_of_a_run

    state = {"version": "v", "config": "{}", "resolved": "r", "epoch": 1, "global_step": 2, "ranks": 1, "rows": None}
    state |= {
        "within": False,
        "random": [],
        "metrics": {},
        "loops": {},
        "callbacks": {},
        "state_dict": {"w": torch.ones(2)},
    }
    store = checkpoint.Store(Folder(str(tmp_path)))
    store.add(1, checkpoint.dumps(state))
    store.add(2, checkpoint.dumps({name: value for name, value in state.items() if name != what}))
    with pytest.warns(UserWarning, match="is no checkpoint of a run; the one before it is used"):
        found = checkpoint.Store(Folder(str(tmp_path))).newest(_is_of_a_run)
    assert found is not None
    assert found["global_step"] == 2


def test_a_run_whose_checkpoints_have_no_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/checkpoints").write_text("a file")
    with pytest.raises(UserError, match="checkpoints is a file, and checkpoints go there"):
        run_here(tmp_path / "out", "epochs=1")
