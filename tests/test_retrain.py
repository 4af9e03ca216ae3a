"""`alphard results` and `alphard retrain`, after a search."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, environment, run_alphard, run_train


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    line = ("search=mlp", "search.trials=3", "search.parallel=1", "optimizer=sgd", "epochs=2", "threads=1")
    done = run_train(folder, *line, "data.fraction=0.2", "data.test_fraction=0.2")
    assert done.status == 0, done.err
    return folder / "studies/mlp"


def test_results_show_the_sorted_table(study: Path) -> None:
    (study / "trials.csv").unlink()
    (study / "experiment/mlp_best.yaml").unlink()
    done = run_alphard(study.parents[1], "results", "studies/mlp/")
    assert done.status == 0, done.err
    values = [float(value) for value in re.findall(r"complete │ (\d\.\d{6})", done.out)]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert (study / "trials.csv").exists()
    assert (study / "experiment/mlp_best.yaml").exists()
    assert done.out.splitlines()[-1] == f"validation_accuracy: {values[0]:.6f}"


def test_retrain_reports_fresh_seeds_and_opens_the_test_split_once(study: Path) -> None:
    done = run_alphard(study.parents[1], "retrain", "studies/mlp", "seeds=3")
    assert done.status == 0, done.err
    runs = {int(path.name): json.loads((path / "metrics.json").read_text()) for path in (study / "retrain").iterdir()}
    assert {*runs} == {1, 2, 3}
    assert all(run["seed"] == seed for seed, run in runs.items())
    trial = json.loads((study / "trials/0/metrics.json").read_text())
    assert all(run["train_rows"] > 4 * trial["train_rows"] for run in runs.values()), "data.fraction=1"
    assert {run["val_rows"] for run in runs.values()} == {trial["val_rows"]}, "the same split"
    assert not any("test_accuracy" in run for run in runs.values())
    values = [run["final_val_accuracy"] for run in runs.values()]
    assert f"mean {sum(values) / 3:.6f} +- " in done.out
    winner = json.loads((study / "winner/metrics.json").read_text())
    best = max(runs, key=lambda seed: runs[seed]["final_val_accuracy"])
    assert winner["seed"] == best
    assert f"test_accuracy: {winner['test_accuracy']:.6f}" in done.out
    assert (study / "winner/model.pt").read_bytes() == (study / f"retrain/{best}/model.pt").read_bytes()
    again = run_alphard(study.parents[1], "retrain", "studies/mlp", "seeds=3")
    assert again.out == done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["results"], "give one study, studies/NAME"),
        (["results", "studies/none"], "studies/none: holds no study; there are studies/mlp"),
        (["retrain"], "give a study, studies/NAME seeds=5"),
        (["retrain", "studies/mlp", "seeds=none"], "seeds: 'none': give how many"),
        (["retrain", "studies/mlp", "seeds=0"], "seeds: '0': give how many"),
        (["retrain", "studies/mlp", "learning=3"], "learning: no such key; did you mean `learning_rate`?"),
        (["retrain", "studies/mlp", "epochs=-3"], "epochs: -3: should be greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(study: Path, arguments: list[str], said: str) -> None:
    done = run_alphard(study.parents[1], *arguments)
    assert done.status == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_commands_are_listed() -> None:
    done = run_alphard(ROOT, "--help", cold=True)
    assert "alphard retrain studies/mlp seeds=5" in done.out


def test_a_study_is_looked_at_from_anywhere_and_moves_with_its_project(study: Path, tmp_path: Path) -> None:
    here = run_alphard(study.parents[1], "results", "studies/mlp")
    there = run_alphard(tmp_path, "results", str(study))
    assert there.status == 0, there.err
    assert there.out.splitlines()[:5] == here.out.splitlines()[:5]


def test_a_lost_trial_costs_neither_the_results_nor_the_winner(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "studies/mlp"
    shutil.copytree(study, copy)
    before = run_alphard(tmp_path, "results", "studies/mlp")
    best = re.search(r"best: trial (\d)", before.out)
    assert best is not None, before.err
    experiment = (copy / "experiment/mlp_best.yaml").read_text()
    shutil.rmtree(copy / "trials" / best[1])
    after = run_alphard(tmp_path, "results", "studies/mlp")
    assert (after.status, after.out) == (0, before.out)
    lost = yaml.safe_load((copy / "experiment/mlp_best.yaml").read_text())
    assert lost.items() <= yaml.safe_load(experiment).items()


@pytest.mark.more
def test_fresh_seeds_are_those_that_no_trial_had(tmp_path: Path) -> None:
    line = ("search=mlp", "search.trials=3", "search.parallel=1", "optimizer=sgd", "epochs=1", "threads=1")
    done = run_train(tmp_path, *line, "data.fraction=0.2", "seed=0,3,7", "search.algorithm=random")
    assert done.status == 0, done.err
    tried = {row["seed"] for row in csv.DictReader((tmp_path / "studies/mlp/trials.csv").read_text().splitlines())}
    assert run_alphard(tmp_path, "retrain", "studies/mlp", "seeds=1").status == 0
    (made,) = (path.name for path in (tmp_path / "studies/mlp/retrain").iterdir())
    assert int(made) == max(map(int, tried)) + 1


@pytest.mark.more
def test_ctrl_c_ends_a_retraining_and_its_line_goes_on(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "studies/mlp")
    command = [str(Path(sys.executable).with_name("alphard")), "retrain", "studies/mlp", "seeds=40"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) as process:  # type: ignore[call-overload]
        for said in process.stdout:
            if said.startswith("seed 5"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip() == "stopped by SIGINT"
