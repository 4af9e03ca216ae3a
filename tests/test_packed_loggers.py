"""Loggers hear of a trial in a pack, at its end, what they would have heard of it alone."""

import csv
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from alphard.search.results import load
from tests.conftest import run_train
from tests.test_search_kills import children, gone, start, steps_in
from tests.test_search_loggers import store_of

# MLflow's client uses what SQLAlchemy will remove.
pytestmark = [
    pytest.mark.more(minutes=3),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.timeout(600),
]

# Values that 1 and 2 threads agree on, and no dropout, whose noise is another's; 1e30 diverges.
LINE = ("search=mlp", "search.algorithm=grid", "search.pruner.kind=none", "search.parallel=1", "search.initial=[]")
LINE += ("learning_rate=1e-4,3e-4,1e-3,1e30", "model.net.hidden=[16]", "optimizer=sgd", "optimizer.momentum=0.9,0.5")
LINE += ("model.net.dropout=0", "epochs=3", "data.fraction=0.3", "threads=1", "logger=[csv,tensorboard,mlflow]")
PACKED = ("search.engine=packed", "search.pack.keep=2")


def runs_of(folder: Path) -> tuple[Any, dict[str, Any]]:
    """MLflow's client, and the runs of the study's trials by their names, but for attempts that were killed."""
    from mlflow import MlflowClient

    client = MlflowClient(store_of(folder))
    runs = client.search_runs([client.get_experiment_by_name("mlp").experiment_id])
    there = [run for run in runs if "mlflow.parentRunId" in run.data.tags and run.info.status != "KILLED"]
    assert len({run.info.run_name for run in there}) == len(there)
    return client, {run.info.run_name: run for run in there}


def curves_of(client: Any, run: Any) -> dict[str, list[tuple[int, float]]]:
    found = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((point.step, point.value) for point in points) for name, points in found.items()}


def scalars_of(folder: Path) -> dict[str, list[int]]:
    """The steps at which TensorBoard has something, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def rows_of(path: Path) -> dict[tuple[str, str], str]:
    """Each cell of a CSV logger's file, by its step and name."""
    rows = csv.DictReader(path.read_text().splitlines())
    return {(row["step"], name): value for row in rows for name, value in row.items() if value}


def test_they_hear_what_they_hear_of_single_runs(tmp_path: Path) -> None:
    folders = tmp_path / "packed", tmp_path / "local"
    for folder, more in zip(folders, (PACKED, ()), strict=True):
        folder.mkdir()
        done = run_train(folder, *LINE, *more)
        assert done.status == 0, done.err
        assert "packs: " not in done.out
    (ours, packed), (theirs, local) = (runs_of(folder) for folder in folders)
    assert sorted(packed) == sorted(local) == sorted(f"trial {number}" for number in range(8))
    states = [run.data.tags["alphard.state"] for run in packed.values()]
    assert (states.count("complete"), states.count("failed")) == (6, 2)
    kept = {path.name for path in (folders[0] / "studies/mlp/trials").iterdir() if (path / "model.pt").exists()}
    assert len(kept) == 2
    for name, run in packed.items():
        alone = local[name]
        assert run.data.params == alone.data.params
        own = {"alphard.study", "mlflow.parentRunId", "mlflow.user", "mlflow.source.name", "mlflow.source.type"}
        tags, others = ({k: v for k, v in each.data.tags.items() if k not in own} for each in (run, alone))
        assert tags == others
        assert run.info.status == alone.info.status
        if tags["alphard.state"] == "failed":
            continue
        curves, expected = curves_of(ours, run), curves_of(theirs, alone)
        assert {k: [step for step, _ in v] for k, v in curves.items()} == {
            k: [step for step, _ in v] for k, v in expected.items()
        }
        for key, points in curves.items():
            values = [value for _, value in points]
            assert values == pytest.approx([value for _, value in expected[key]], rel=1e-3), key
        files, whole = (
            {path.path for path in client.list_artifacts(each.info.run_id)}
            for client, each in ((ours, run), (theirs, alone))
        )
        assert files == (whole if name.removeprefix("trial ") in kept else set())
    for number in kept:
        one, other = (folder / "studies/mlp/trials" / number / "logs" for folder in folders)
        assert scalars_of(one / "tensorboard") == scalars_of(other / "tensorboard")
        cells, expected_cells = rows_of(one / "csv/metrics.csv"), rows_of(other / "csv/metrics.csv")
        assert cells.keys() == expected_cells.keys()
        assert (one / "csv/hparams.yaml").read_bytes() == (other / "csv/hparams.yaml").read_bytes()


def test_killed_and_interrupted_each_trial_has_one_run_that_was_not(tmp_path: Path) -> None:
    line = ("search=mlp", "search.engine=packed", "logger=mlflow", "search.trials=24", "search.algorithm=random")
    line += ("search.pruner.kind=asha", "search.pruner.grace_epochs=4", "search.parallel=2", "search.initial=[]")
    line += ("epochs=int(interval(8,40))", "threads=1", "model.net.hidden=[16]", "batch_size=16", "optimizer=sgd")
    journal = tmp_path / "studies/mlp/journal.log"
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process, before = start(tmp_path, line), steps_in(journal)
        while steps_in(journal) < before + 60 and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was killed"
        workers = children(process.pid)
        os.kill(process.pid, number)
        process.wait(60)
        while not all(map(gone, workers)):
            time.sleep(0.02)
    assert start(tmp_path, line).wait(300) == 0, (tmp_path / "out").read_text()
    client, runs = runs_of(tmp_path)
    trials = {f"trial {trial.number}": trial for trial in load(tmp_path / "studies/mlp")[1]}
    assert runs.keys() == trials.keys()
    for name, trial in trials.items():
        run = runs[name]
        assert run.data.tags["alphard.state"] == trial.state.name.lower()
        told = dict(curves_of(client, run)["validation_accuracy"])
        assert told == trial.intermediate_values
    assert {trial.state.name for trial in trials.values()} == {"COMPLETE", "PRUNED"}

    lost = next(name for name, trial in trials.items() if trial.state.name == "COMPLETE")
    run, step = runs[lost], min(trials[lost].intermediate_values)
    for begun in (False, True):  # as where a process ended between the study's word and MLflow's, or in its midst
        client.delete_run(run.info.run_id)
        if begun:
            again = client.create_run(run.info.experiment_id, tags=run.data.tags).info.run_id
            client.log_metric(again, "validation_accuracy", trials[lost].intermediate_values[step], step=step)
        assert start(tmp_path, line).wait(120) == 0, (tmp_path / "out").read_text()
        _, runs = runs_of(tmp_path)
        run = runs[lost]
        curves = curves_of(client, run)
        assert len(curves["validation_accuracy"]) == len(trials[lost].intermediate_values)
        assert dict(curves["validation_accuracy"]) == trials[lost].intermediate_values
        assert [value for _, value in curves["final/validation_accuracy"]] == [trials[lost].value]
        assert (run.info.status, run.data.tags["alphard.state"]) == ("FINISHED", "complete")


def test_a_logger_that_fails_costs_no_trial_and_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    done = run_train(tmp_path, *LINE, *PACKED, "logger=csv", "logger.csv.save_dir=a_file")
    assert done.status == 0, done.err
    assert "8 (6 complete, 2 failed)" in done.out
    (line,) = [line for line in done.out.splitlines() if line.startswith("packs: ")]
    assert line.startswith("packs: loggers do not hear of all trials: logger.csv: ")
    assert len(list(tmp_path.glob("studies/mlp/trials/*/model.pt"))) == 2
