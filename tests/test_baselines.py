"""scikit-learn's plain models on the same split, beside a run and beside retrained seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
from pytorch_lightning.demos.boring_classes import BoringDataModule
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from alphard import artifacts, baselines, build
from alphard.data import BuiltIn, Splits, Table
from alphard.errors import UserError
from tests.conftest import run_alphard, run_train
from tests.in_process import run_here

QUICK = ("data=breast_cancer", "epochs=2", "data.test_fraction=0.2")
MODELS = ["majority class", "logistic regression", "gradient-boosted trees"]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return BuiltIn(name="breast_cancer", test_fraction=0.2).splits


def test_each_is_fitted_on_the_training_rows_and_scored_on_the_split(splits: Splits) -> None:
    found = baselines.scored(splits, 0, "validation", "test")
    assert list(found) == MODELS
    train, table = splits.train, splits.validation
    most = np.bincount(train.y).argmax()
    assert found["majority class"]["validation_accuracy"] == pytest.approx(np.mean(table.y == most))
    scaler = StandardScaler().fit(train.X)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(train.X), train.y)
    for name, rows in (("validation", table), ("test", splits.test)):
        assert rows is not None
        own = found["logistic regression"]
        X = scaler.transform(rows.X)
        assert own[f"{name}_accuracy"] == pytest.approx(model.score(X, rows.y))
        assert own[f"{name}_loss"] == pytest.approx(log_loss(rows.y, model.predict_proba(X)), rel=1e-4)
    assert found["gradient-boosted trees"]["validation_accuracy"] > found["majority class"]["validation_accuracy"]


def test_a_class_that_the_training_rows_lack_is_nearly_impossible() -> None:
    random = np.random.default_rng(0)
    y = np.array([0, 2] * 30)
    X = (y[:, None] + 0.1 * random.standard_normal((60, 3))).astype(np.float32)
    table = Table(X, y)
    strange = Table(X[:4], np.array([0, 2, 1, 1]))
    found = baselines.scored(Splits.of([table, strange], ["a", "b", "c"], ["no", "never", "yes"]), 0, "validation")
    assert found["logistic regression"]["validation_accuracy"] == 0.5
    assert 30 < found["logistic regression"]["validation_loss"] < 60


def test_a_run_has_them_at_once_or_afterwards_and_its_weights_are_the_same(tmp_path: Path) -> None:
    without = run_here(tmp_path / "a", *QUICK).metrics
    assert baselines.KEY not in without
    model = (tmp_path / "a" / artifacts.MODEL).read_bytes()
    at_once = run_here(tmp_path / "b", *QUICK, "baselines=true").metrics
    assert (tmp_path / "b" / artifacts.MODEL).read_bytes() == model
    afterwards = run_here(tmp_path / "a", *QUICK, "baselines=true").metrics
    assert (tmp_path / "a" / artifacts.MODEL).read_bytes() == model
    assert afterwards[baselines.KEY] == at_once[baselines.KEY]
    assert not any("test" in name for name in afterwards[baselines.KEY]["majority class"])
    assert json.loads((tmp_path / "a" / artifacts.METRICS).read_text()) == afterwards
    opened = run_here(tmp_path / "a", *QUICK, "score_test=true").metrics
    assert opened["test_accuracy"] is not None
    assert all("test_accuracy" in found for found in opened[baselines.KEY].values())


def test_a_run_shows_them(tmp_path: Path) -> None:
    done = run_train(tmp_path, *QUICK, "baselines=true", "output_dir=out")
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / artifacts.METRICS).read_text())
    for name, found in metrics[baselines.KEY].items():
        row = next(line for line in done.out.splitlines() if name in line)
        assert f"{found['validation_accuracy']:.4f}" in row
        assert f"{found['validation_loss']:.4f}" in row
    noise = np.sqrt(metrics["validation_accuracy"] * (1 - metrics["validation_accuracy"]) / metrics["val_rows"])
    assert f"validation rows: {metrics['val_rows']}, so a binomial standard error of {noise:.6f}" in done.out
    assert done.out.splitlines()[-1] == f"validation_accuracy: {metrics['validation_accuracy']:.6f}"
    assert run_alphard(tmp_path, "results", "out").status == 0
    report = (tmp_path / "out/report.html").read_text()
    assert all(f"validation, {name}" in report for name in MODELS)


@pytest.mark.more
def test_trials_have_none_and_retraining_does(tmp_path: Path) -> None:
    line = ("search=mlp", "search.trials=2", "search.parallel=1", "optimizer=sgd", "threads=1", *QUICK)
    done = run_train(tmp_path, *line, "baselines=true")
    assert done.status == 0, done.err
    study = tmp_path / "studies/mlp"
    assert not any(baselines.KEY in json.loads(path.read_text()) for path in study.glob("trials/*/metrics.json"))
    told = run_alphard(tmp_path, "retrain", "studies/mlp", "seeds=2")
    assert told.status == 0, told.err
    winner = json.loads((study / "winner/metrics.json").read_text())
    runs = [json.loads(path.read_text()) for path in study.glob("retrain/*/metrics.json")]
    mean = sum(run["validation_accuracy"] for run in runs) / 2
    rows = {row.split("│")[1].strip(): row for row in told.out.splitlines() if row.startswith("│")}
    assert [*rows][-5:] == ["mean of 2 seeds", f"winner, seed {winner['seed']}", *MODELS]
    assert f"{mean:.4f}" in rows["mean of 2 seeds"]
    assert f"{winner['baselines']['majority class']['test_accuracy']:.4f}" in rows["majority class"]
    assert f"test rows: {winner['test_rows']}, so a binomial standard error of 0.0" in told.out
    wrong = run_alphard(tmp_path, "retrain", "studies/mlp", "baselines=perhaps")
    assert (wrong.status, wrong.err) == (2, "error: baselines: 'perhaps': give true or false\n")


def test_data_that_shows_no_rows_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "data_of", lambda *_, **__: BoringDataModule())
    with pytest.raises(UserError, match=r"^baselines: true: they are fitted on the rows of alphard.data.TableData"):
        run_here(tmp_path / "out", *QUICK, "baselines=true")
    assert not (tmp_path / "out").exists()
