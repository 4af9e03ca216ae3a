"""Loggers, alone and together."""

import csv
from pathlib import Path

import pytest

from tests.conftest import run_train
from tests.in_process import run_here


def test_csv_and_tensorboard_together(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_here(tmp_path, "epochs=3", "logger=[csv,tensorboard]")
    rows = list(csv.DictReader((tmp_path / "logs/csv/metrics.csv").read_text().splitlines()))
    accuracies = [float(row["validation_accuracy"]) for row in rows if row["validation_accuracy"]]
    events = EventAccumulator(str(tmp_path / "logs/tensorboard")).Reload()
    assert [event.value for event in events.Scalars("validation_accuracy")] == pytest.approx(accuracies)
    assert len(accuracies) == 3


def test_a_logger_whose_package_is_missing_names_it(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked/mlflow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('no mlflow here', name='mlflow')")
    done = run_train(tmp_path, "logger=mlflow", "epochs=1", cold=True, PYTHONPATH=str(blocked.parent))
    assert done.status == 2
    assert "logger.mlflow" in done.err
    assert "pip install" in done.err


@pytest.mark.more
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's client uses what SQLAlchemy will remove
def test_mlflow_records_the_run_in_sqlite(tmp_path: Path) -> None:
    done = run_train(tmp_path, "logger=mlflow", "epochs=3", "output_dir=out", cold=True)
    assert done.status == 0, done.err
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("alphard")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "validation_accuracy")
    rows = list(csv.DictReader((tmp_path / "out/eval_history.csv").read_text().splitlines()))
    assert [point.value for point in history] == pytest.approx([float(row["validation_accuracy"]) for row in rows])
