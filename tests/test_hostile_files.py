"""Files that are not what they should be, in every place where the subcommands read or write one."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import yaml

from alphard import checkpoint
from alphard.cli import main
from alphard.errors import UserError
from alphard.guard import refuse
from alphard.search.storages import storage_of
from alphard.storage import Folder
from tests.conftest import ROOT, copied, environment
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
    copied(tmp_path / "place", "configs")
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


@pytest.mark.more
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


# A run, or a study, that somebody else made


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
SECRET = "xyzzy-49152-plugh"


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> object:
        return os.system, ("touch canary",)


@pytest.mark.parametrize("command", ["predict", "results", "train"])
def test_a_bomb_in_a_runs_folder_is_refused_at_once(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/config.yaml").write_text(BOMB)
    if command == "train":
        with pytest.raises(UserError, match=r"config\.yaml: is not what a run writes: an alias, \*a0"):
            run_here(place / "run", "epochs=1")
        return
    assert main([command, "run", *(["rows.csv", "out=new.csv"] if command == "predict" else [])]) == 2
    said = capsys.readouterr().err
    assert "run/config.yaml: is not what a run writes: an alias, *a0, where its value belongs; " in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "net: {hidden: '${oc.env:GEHEIM}'}",
        "net: {hidden: '[8, ${oc.env:GEHEIM}]'}",
        "net: {_target_: '${oc.env:GEHEIM}'}",
        "net: {_target_: 'torch.nn.${oc.env:GEHEIM}'}",
        "net: {'${oc.env:GEHEIM}': 1}",
        "net: '${oc.decode:${oc.env:GEHEIM}}'",
        "net: {_target_: torch.nn.Linear, in_features: 2, out_features: 2, device: '${oc.env:GEHEIM}'}",
        "smoothing: '${oc.env:GEHEIM}'",
    ],
)
def test_a_foreign_config_makes_no_command_say_a_secret(
    line: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEHEIM", SECRET)
    theirs: Any = yaml.safe_load(Path("run/config.yaml").read_text())
    for key, value in yaml.safe_load(line).items():
        theirs["model"][key] = theirs["model"][key] | value if isinstance(value, dict) else value
    Path("run/config.yaml").write_text(yaml.safe_dump(theirs))
    assert main(["predict", "run", "rows.csv", "out=new.csv"]) == 2
    main(["results", "run"])
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert said.err.startswith("error: ")
    assert not any(SECRET.encode() in path.read_bytes() for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["model.pt", "preprocessing.skops", "metrics.json", "config.yaml", "curves.json"])
def test_no_file_of_a_run_is_unpickled(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (pickle.dumps(Evil()), saved({"weight": Evil()}), saved(Evil())):
        (place / "run" / name).write_bytes(content)
        main(["predict", "run", "rows.csv", "out=new.csv"])
        main(["results", "run"])
        assert not Path("canary").exists()
        assert "Traceback" not in capsys.readouterr().err


def saved(thing: object) -> bytes:
    content = io.BytesIO()
    torch.save(thing, content)
    return content.getvalue()


def test_no_checkpoint_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_here(tmp_path / "out", "epochs=1")
    (tmp_path / "out/metrics.json").unlink()
    (tmp_path / "out/checkpoints").mkdir(exist_ok=True)
    for name in ("last.ckpt", "1.ckpt", "1.pt", "hpc_ckpt_1.ckpt", "step-1.ckpt"):
        (tmp_path / "out/checkpoints" / name).write_bytes(saved({"state_dict": Evil()}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_here(tmp_path / "out", "epochs=1")
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one trial, as its folder says it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "studies/mine"
    made = optuna.create_study(study_name="mine", storage=storage_of(folder, None), direction="maximize")
    space = {"kind": optuna.distributions.CategoricalDistribution(["a", "[b"])}
    made.add_trial(optuna.trial.create_trial(value=0.5, params={"kind": "[b"}, distributions=space))
    write_about(folder, space={"kind": "choice(a, b)"})
    return folder


def write_about(folder: Path, **search: Any) -> None:
    """A study.yaml of theirs."""
    configs = {"folder": str(ROOT / "configs"), "name": "config", "extra": [], "overrides": [], "choices": {}}
    node = {"objective": "validation_accuracy", "direction": "maximize", "space": {"x": "interval(0, 1)"}, **search}
    said = {"configs": configs | {"groups": []}, "overrides": [], "search": node}
    (folder / "study.yaml").write_text(yaml.safe_dump(said))


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one error of `alphard results studies/mine`."""
    capsys.readouterr()
    assert main(["results", "studies/mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("error: ") == 1
    return said


def test_a_value_in_a_journal_that_no_search_chose(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys)
    assert "trial 0: kind: '[b': " in said
    assert "the study's storage is damaged" in said


@pytest.mark.parametrize(
    "space", [{"x": 5}, {"x": ["a"]}, {"x": "interval(0"}, {"x": "choice()"}, {"when": 5}, {"when": {"a": 1}}, {}]
)
def test_an_odd_space_is_one_error(space: Any, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_about(study, space=space)
    assert "search.space" in refused(capsys)


@pytest.mark.parametrize("search", [{"objective": 5}, {"direction": "up"}, {"space": "x"}, {"space": [1]}])
def test_an_odd_study_is_one_error(search: Any, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_about(study, **search)
    assert f"study.yaml: is not what a search writes: search.{next(iter(search))}: " in refused(capsys)


@pytest.mark.parametrize(
    "line", ["[1]", "5", "{}", "[" * 100_000, '{"op_code": 99}', '{"op_code": 0}', '{"op_code": 4, "trial_id": "x"}']
)
def test_an_odd_line_of_a_journal_is_one_error(line: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (study / "journal.log").open("a") as file:
        file.write(f"{line}\n")
    assert "journal.log" in refused(capsys)


def test_a_bomb_for_a_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.yaml").write_text(BOMB)
    assert "study.yaml: is not what a search writes: an alias, *a0" in refused(capsys)


def test_a_studys_storage_says_no_secret(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEHEIM", SECRET)
    for storage in ("${oc.env:GEHEIM}", "mysql://x:${oc.env:GEHEIM}@h/d", "sqlite:////nosuch/${oc.env:GEHEIM}/x.db"):
        write_about(study, storage=storage)
        said = refused(capsys)
        assert SECRET not in said
        assert "search.storage" in said


def test_small_mistakes_have_remedies(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said_of(*words: str) -> str:
        assert main(words) == 2
        return capsys.readouterr().err

    study.rename(study.with_name("other"))
    assert "holds no study; there are studies/other; name one" in said_of("results", "studies")
    assert "study.yaml is a file; give the folder of a study" in said_of("results", "studies/other/study.yaml")
    assert "out: is given twice; give it once" in said_of("predict", "run", "rows.csv", "out=a.csv", "out=b.csv")
    copied(Path(), "configs")
    assert "out: is given twice; give it once" in said_of("prepare", "out=a", "out=b")
    Path("place/train.npz").mkdir(parents=True)
    assert "train.npz is no file, and one of that name goes there" in said_of("prepare", "out=place", "overwrite=true")
    with pytest.raises(UserError, match="write experiment=mine"):
        refuse(["--experiment", "mine"], sealed=False)
