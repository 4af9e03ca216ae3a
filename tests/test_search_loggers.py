"""A search in MLflow, killed and gone on with, read back through MLflow's own client and its server."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, environment, run_alphard, run_train
from tests.ports import free_port
from tests.test_search_kills import children, gone

# MLflow's client uses what SQLAlchemy will remove.
pytestmark = [pytest.mark.more, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(900)]

PARALLEL = 2
# 1e30 diverges; what learns least is ended after an epoch.
SEARCH = f"""
# @package _global_
defaults: [default]
search:
  trials: 6
  parallel: {PARALLEL}
  algorithm: grid
  pruner: {{kind: asha, grace_epochs: 1, reduction: 2}}
  space: {{learning_rate: "choice(0.01, 1e30, 0.02, 1e-6, 0.03, 1e-7)"}}
"""
LINE = ("--config-dir=mine", "search=tried", "logger=mlflow", "optimizer=sgd", "threads=1", "patience=1000")
LINE += ("epochs=150", "restore_best=true")


def start(folder: Path) -> subprocess.Popen[str]:
    with (folder / "out").open("a") as out:
        command = [sys.executable, str(ROOT / "train.py"), *LINE]
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=out, stderr=out, text=True)


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def runs_of(folder: Path) -> tuple[Any, list[Any], list[Any]]:
    """MLflow's client, the study's runs, and those below them."""
    from mlflow import MlflowClient

    client = MlflowClient(store_of(folder))
    runs = client.search_runs([client.get_experiment_by_name("tried").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return client, parents, [run for run in runs if run not in parents]


def trials_of(folder: Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader((folder / "studies/tried/trials.csv").read_text().splitlines())
    return {row["trial"]: row for row in rows}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that is killed while both workers train, interrupted before and while they do, and ended by its line."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "mine/search").mkdir(parents=True)
    (folder / "mine/search/tried.yaml").write_text(SEARCH.lstrip())
    for number, trains in ((signal.SIGKILL, True), (signal.SIGINT, False), (signal.SIGINT, True)):
        process = start(folder)
        before = began(folder)
        # One child alone may be the uname that MLflow's import asks.
        while began(folder) < before + 1 if trains else len(children(process.pid)) < PARALLEL:
            assert process.poll() is None, (folder / "out").read_text()
            time.sleep(0.05)
        if trains:
            time.sleep(0.5)
        workers = children(process.pid)
        os.kill(process.pid, number)
        process.wait(120)
        while not all(map(gone, workers)):
            time.sleep(0.05)
        if number == signal.SIGINT:
            _, (parent,), below = runs_of(folder)
            said = (process.returncode, parent.info.status)
            assert said == (130, "KILLED"), (folder / "out").read_text()
            assert "RUNNING" not in {run.info.status for run in below}
    assert start(folder).wait(600) == 0, (folder / "out").read_text()
    return folder


def began(folder: Path) -> int:
    """How many attempts at trials have begun, by the runs that MLflow knows."""
    import sqlite3

    if not (folder / "mlflow.db").exists():
        return 0
    # For writing: what a killed process left half written is undone by whoever opens the file next, and who may not
    # is refused.
    with contextlib.closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=rw", timeout=60, uri=True)) as file:
        try:
            (count,) = file.execute("SELECT count(*) FROM tags WHERE key = 'alphard.trial'").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return 0
    return int(count)


def test_a_study_is_one_experiment_one_run_and_a_run_below_it_for_each_trial(searched: Path) -> None:
    client, (parent,), below = runs_of(searched)
    assert {e.name for e in client.search_experiments()} == {"tried", "Default"}
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "tried")
    rows = trials_of(searched)
    best = next(iter(rows.values()))
    assert parent.data.tags["alphard.best.trial"] == best["trial"]
    assert parent.data.metrics["best/validation_accuracy"] == float(best["validation_accuracy"])
    assert {"trials.csv", "study.yaml"} <= {path.path for path in client.list_artifacts(parent.info.run_id)}
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id}
    ended = [run for run in below if run.info.status != "KILLED"]
    assert len(ended) < len(below), "the search was killed while it trained"
    assert len(ended) == len(rows) == 6
    assert {run.data.tags["alphard.trial"]: run.data.tags["alphard.state"] for run in ended} == {
        number: row["state"] for number, row in rows.items()
    }
    assert Counter(run.info.status for run in ended) == {"FINISHED": 5, "FAILED": 1}
    assert {"complete", "pruned", "failed"} == {row["state"] for row in rows.values()}


def test_a_trials_run_holds_its_parameters_its_epochs_its_value_and_its_artifacts(
    searched: Path, tmp_path: Path
) -> None:
    client, _, below = runs_of(searched)
    rows = trials_of(searched)
    for run in below:
        if run.info.status == "KILLED":
            continue
        number = run.data.tags["alphard.trial"]
        row, folder = rows[number], searched / "studies/tried/trials" / number
        assert run.info.run_name == f"trial {number}"
        assert float(run.data.params["learning_rate"]) == float(row["learning_rate"])
        assert run.data.params["epochs"] == "150"
        if row["state"] == "failed":
            assert run.data.tags["alphard.error"] == row["error"]
            continue
        history = list(csv.DictReader((folder / "eval_history.csv").read_text().splitlines()))
        for name in ("validation_accuracy", "validation_loss", "train_loss"):
            points = client.get_metric_history(run.info.run_id, name)
            ours = {int(epoch["epoch"]): float(epoch[name]) for epoch in history if epoch[name]}
            assert {point.step: point.value for point in points} == ours
            assert len(points) == len(ours)
        assert (folder / "config.yaml").read_text().count("experiment_name: null") == 1, (
            "it repeats as a run of its own"
        )
        kept = {path.path for path in client.list_artifacts(run.info.run_id)}
        if row["state"] == "pruned":
            assert kept == {"config.yaml", "eval_history.csv"}
            continue
        assert run.data.metrics["final/validation_accuracy"] == float(row["validation_accuracy"])
        for name in ("model.pt", "metrics.json", "eval_history.csv", "config.yaml"):
            there = Path(client.download_artifacts(run.info.run_id, name, str(tmp_path)))
            assert there.read_bytes() == (folder / name).read_bytes()


def test_mlflows_own_server_shows_it(searched: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db", "--port", str(port)]
    with (searched / "server").open("w") as words:
        server = subprocess.Popen(
            [*command, "--workers", "1"],
            cwd=searched,
            env=environment(),
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                experiment = ask(port, "experiments/get-by-name?experiment_name=tried")["experiment"]["experiment_id"]
                break
            except OSError:
                assert server.poll() is None, (searched / "server").read_text()
                assert time.monotonic() < until, (searched / "server").read_text()
                time.sleep(0.5)
        ended = "attributes.status = 'FINISHED' and tags.`alphard.state` = 'complete'"
        found = ask(port, "runs/search", {"experiment_ids": [experiment], "filter": ended})["runs"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(120)
    complete = [f"trial {number}" for number, row in trials_of(searched).items() if row["state"] == "complete"]
    assert sorted(run["info"]["run_name"] for run in found) == sorted([*complete, "tried"])


def ask(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}", data)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_trial_repeated_and_a_winner_retrained_are_no_trials(searched: Path) -> None:
    client, (parent,), below = runs_of(searched)
    again = run_train(searched, "--config-dir=studies/tried", "experiment=tried_best", "epochs=1", "output_dir=again")
    assert again.status == 0, again.err
    alone = client.search_runs([client.get_experiment_by_name("alphard").experiment_id])
    assert [run.data.tags.get("mlflow.parentRunId") for run in alone] == [None]
    done = run_alphard(searched, "retrain", "studies/tried", "seeds=1", "epochs=1")
    assert done.status == 0, done.err
    new = [run for run in runs_of(searched)[2] if run.info.run_id not in {one.info.run_id for one in below}]
    assert [(run.info.run_name, run.info.status) for run in new] == [("retrain seed 1", "FINISHED")]
    assert new[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "alphard.trial" not in new[0].data.tags
