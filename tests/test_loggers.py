"""Loggers, alone and together."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alphard.errors import UserError
from alphard.tracking import params_of
from tests.conftest import ROOT, environment, run_train
from tests.in_process import config_of, run_here

HPARAMS = "_hparams_/session_"
# MLflow's client uses what SQLAlchemy will remove.
mlflow_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def events_of(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def session_of(folder: Path) -> tuple[dict[str, Any], int]:
    """What TensorBoard's HParams tab knows of a run: its parameters, and its status."""
    from tensorboard.plugins.hparams import metadata

    told = events_of(folder).summary_metadata
    start, end = (told[f"{HPARAMS}{which}_info"].plugin_data.content for which in ("start", "end"))
    values = metadata.parse_session_start_info_plugin_data(start).hparams
    params = {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}
    return params, metadata.parse_session_end_info_plugin_data(end).status


def test_csv_and_tensorboard_together(tmp_path: Path) -> None:
    """Both have epochs on their axis, however many steps an epoch takes, and the kept weights' value at the end."""
    run_here(tmp_path, "epochs=3", "logger=[csv,tensorboard]", "restore_best=false")
    history = list(csv.DictReader((tmp_path / "eval_history.csv").read_text().splitlines()))
    rows = list(csv.DictReader((tmp_path / "logs/csv/metrics.csv").read_text().splitlines()))
    events = events_of(tmp_path / "logs/tensorboard")
    for name in ("validation_accuracy", "train_loss"):
        ours = [(int(row["epoch"]), float(row[name])) for row in history]
        assert [(int(row["step"]), float(row[name])) for row in rows if row[name]] == ours
        assert [(event.step, event.value) for event in events.Scalars(name)] == [(k, pytest.approx(v)) for k, v in ours]
    assert "step" not in history[0]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (final,) = events.Scalars("final/validation_accuracy")
    assert (final.step, final.value) == (3, pytest.approx(metrics["validation_accuracy"]))


def test_tensorboards_hparams_has_the_parameters_and_the_status(tmp_path: Path) -> None:
    run_here(tmp_path, "epochs=1", "logger=tensorboard", "learning_rate=0.01", "optimizer=sgd")
    params, status = session_of(tmp_path / "logs/tensorboard")
    assert (params["learning_rate"], params["optimizer._target_"], status) == (0.01, "torch.optim.SGD", 1)
    with pytest.raises(UserError, match="diverged"):
        run_here(tmp_path, "epochs=1", "logger=tensorboard", "learning_rate=1e30", "optimizer=sgd", "overwrite=true")
    params, status = session_of(tmp_path / "logs/tensorboard")
    assert (params["learning_rate"], status) == (1e30, 2), "or the earlier run's files are still there"


def test_a_model_trains_bitwise_the_same_with_loggers(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    run_here(a, "epochs=2")
    run_here(b, "epochs=2", "logger=[csv,tensorboard]")
    assert (a / "model.pt").read_bytes() == (b / "model.pt").read_bytes()


def test_no_value_of_the_environment_becomes_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKED_SECRET", "https://token@there/rows.csv")
    line = ("data=csv", "data.path=${oc.env:TRACKED_SECRET}", "data.target=y", "logger=csv")
    params = params_of(config_of(*line))
    assert params["data.path"] == "${oc.env:TRACKED_SECRET}"
    assert not any("token" in str(value) for value in params.values())
    assert params["epochs"] == 40
    assert "optimizer.lr" not in params, "it only refers to learning_rate"
    assert not any(name.startswith("logger") for name in params)


@pytest.mark.more
def test_a_search_is_one_table_in_tensorboards_hparams(tmp_path: Path) -> None:
    line = ("search=mlp", "search.trials=3", "search.parallel=1", "epochs=2", "data.fraction=0.2", "threads=1")
    done = run_train(tmp_path, *line, "search.pruner.kind=none", "logger=tensorboard")
    assert done.status == 0, done.err
    rows = list(csv.DictReader((tmp_path / "studies/mlp/trials.csv").read_text().splitlines()))
    assert len(rows) == 3
    for row in rows:
        logs = tmp_path / "studies/mlp/trials" / row["trial"] / "logs/tensorboard"
        params, status = session_of(logs)
        told = (params["learning_rate"], params["optimizer"], params["model.net.hidden"])
        assert told == (float(row["learning_rate"]), row["optimizer"], row["model.net.hidden"])
        assert ("optimizer.momentum" in params) == (row["optimizer"] == "sgd")
        (final,) = events_of(logs).Scalars("final/validation_accuracy")
        assert (final.value, status) == (pytest.approx(float(row["validation_accuracy"])), 1)


def test_a_logger_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"logger\.mlflow(.|\n)*pip install"):
        run_here(tmp_path, "logger=mlflow", "epochs=1")


@pytest.mark.more
def test_a_logger_whose_package_is_missing_names_it(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked/mlflow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('no mlflow here', name='mlflow')")
    done = run_train(tmp_path, "logger=mlflow", "epochs=1", cold=True, PYTHONPATH=str(blocked.parent))
    assert done.status == 2
    assert "logger.mlflow" in done.err
    assert "pip install" in done.err


def runs_of(store: str, experiment: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    return client, client.search_runs([found.experiment_id])


@pytest.mark.more
@mlflow_warns
def test_mlflow_records_the_run_in_sqlite(tmp_path: Path) -> None:
    done = run_train(tmp_path, "logger=mlflow", "epochs=3", "output_dir=out", cold=True)
    assert done.status == 0, done.err
    assert "INFO" not in done.err
    client, (run,) = runs_of(f"sqlite:///{tmp_path}/mlflow.db", "alphard")
    history = client.get_metric_history(run.info.run_id, "validation_accuracy")
    rows = list(csv.DictReader((tmp_path / "out/eval_history.csv").read_text().splitlines()))
    ours = [(int(row["epoch"]), float(row["validation_accuracy"])) for row in rows]
    assert sorted((point.step, point.value) for point in history) == ours
    assert run.info.status == "FINISHED"
    assert (run.data.params["learning_rate"], run.data.params["epochs"]) == ("0.002", "3")
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert run.data.metrics["final/validation_accuracy"] == metrics["validation_accuracy"]
    kept = {path.path for path in client.list_artifacts(run.info.run_id)}
    assert {"model.pt", "metrics.json", "eval_history.csv", "config.yaml", "confusion_matrix.png"} <= kept
    for name in ("model.pt", "metrics.json"):
        there = Path(client.download_artifacts(run.info.run_id, name, str(tmp_path)))
        assert there.read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.more
@mlflow_warns
def test_mlflow_knows_how_a_run_ended_and_each_job_of_a_multirun_is_a_run(tmp_path: Path) -> None:
    done = run_train(tmp_path, "-m", "logger=mlflow", "epochs=1", "optimizer=sgd", "learning_rate=0.01,1e30", cold=True)
    assert done.status == 1
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "logger=mlflow", "epochs=100000", "patience=100000", "output_dir=out"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "epoch: 3\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    client, runs = runs_of(f"sqlite:///{tmp_path}/mlflow.db", "alphard")
    found = {run.data.params["learning_rate"]: run for run in runs}
    assert {rate: run.info.status for rate, run in found.items()} == {
        "0.01": "FINISHED",
        "1e+30": "FAILED",
        "0.002": "KILLED",
    }
    assert "diverged" in found["1e+30"].data.tags["alphard.error"]
    assert "model.pt" in {path.path for path in client.list_artifacts(found["0.002"].info.run_id)}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("sqlite:///not_a_database", "file is not a database"),
        ("sqlite:///a_folder", "is a folder"),
        ("nonsense://there", "nonsense"),
    ],
)
@pytest.mark.more
@pytest.mark.parametrize("search", [(), ("search=mlp",)])
def test_a_store_that_cannot_be_used_is_refused_at_once(
    uri: str, said: str, search: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "not_a_database").write_text("no database " * 100)
    (tmp_path / "a_folder").mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    began = time.monotonic()
    done = run_train(tmp_path, "logger=mlflow", f"logger.mlflow.tracking_uri={uri}", *search)
    assert (done.status, done.err.count("error:")) == (2, 1), done.err
    assert f"logger.mlflow.tracking_uri: {uri}" in done.err
    assert said in done.err
    assert {path.name for path in tmp_path.iterdir()} == before
    assert time.monotonic() - began < 60
