"""`python train.py`, and what it leaves."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from alphard.data import preprocessing
from alphard.errors import UserError
from tests.conftest import Done, Train, run_train
from tests.in_process import config_of, run_here

ARTIFACTS = {
    "model.pt", "preprocessing.skops", "metrics.json", "eval_history.csv", "training.log", "config.yaml",
    "learning_curves.png", "confusion_matrix.png", "curves.json",
}  # fmt: skip
PROMISED = {
    "final_val_loss", "final_val_accuracy", "best_val_loss", "best_epoch", "stopped_epoch", "patience",
    "min_delta", "restore_best", "max_epochs_requested", "learning_rate", "train_rows", "val_rows",
    "features", "feature_names", "classes", "model_uri", "device", "seed",
}  # fmt: skip
# What one run of the default config is asked for, with fewer epochs.
SHORT = ("epochs=3", "threads=1")


def history_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "eval_history.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run, of which the tests here look at all sides."""
    folder = tmp_path_factory.mktemp("run")
    done = run_train(folder, *SHORT, "output_dir=out", SECRET="swordfish")
    assert done.status == 0, done.err
    return done


@pytest.mark.hydra
def test_leaves_every_artifact_and_nothing_else(done: Done) -> None:
    assert {path.name for path in (done.folder / "out").iterdir()} == ARTIFACTS
    assert {path.name for path in done.folder.iterdir()} == {"out"}  # no empty outputs/


def test_ends_with_the_objective_on_stdout(done: Done) -> None:
    metrics = json.loads((done.folder / "out/metrics.json").read_text())
    assert done.out.splitlines()[-1] == f"validation_accuracy: {metrics['final_val_accuracy']:.6f}"
    assert done.out.splitlines()[-2] == f"validation_loss: {metrics['final_val_loss']:.6f}"
    assert re.fullmatch(r"validation_accuracy: 0\.\d{6}", done.out.splitlines()[-1])


def test_reports_after_every_validation(done: Done) -> None:
    rows = history_of(done.folder / "out")
    said = re.findall(r"^validation_accuracy: (.*)$", done.out, re.MULTILINE)
    assert said[:-1] == [f"{float(row['validation_accuracy']):.6f}" for row in rows]
    assert len(rows) == 3


def test_metrics_have_the_promised_names(done: Done) -> None:
    metrics = json.loads((done.folder / "out/metrics.json").read_text())
    assert set(metrics) >= PROMISED
    assert (metrics["train_rows"], metrics["val_rows"], metrics["features"]) == (1438, 359, 64)
    assert sum(map(sum, metrics["validation_confusion_matrix"])) == 359
    for name in ("precision", "recall", "f1", "auroc", "calibration_error"):
        assert 0 <= metrics[f"validation_{name}"] <= 1


def test_kept_weights_give_the_reported_accuracy(done: Done) -> None:
    """model.pt, loaded without pickled code, on data that its own preprocessing prepared."""
    out = done.folder / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    weights = torch.load(out / "model.pt", weights_only=True)
    config = config_of(*SHORT)
    from alphard.construct import instantiate

    data = instantiate(config.data)
    model = instantiate(config.model, **data.facts)
    model.load_state_dict(weights)
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    rows = data.divide(y)[1]
    X = preprocessing.loads((out / preprocessing.FILE).read_bytes()).transform(X[rows]).astype("float32")
    with torch.inference_mode():
        right = model.eval()(torch.from_numpy(X)).argmax(1).numpy() == y[rows]
    assert right.mean() == pytest.approx(metrics["final_val_accuracy"], abs=1e-7)


def test_log_holds_what_was_printed(done: Done) -> None:
    assert (done.folder / "out/training.log").read_text() == done.out + done.err


@pytest.mark.hydra
def test_config_keeps_references_and_names_no_place(done: Done) -> None:
    text = (done.folder / "out/config.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["optimizer"]["lr"] == "${learning_rate}"
    assert config["output_dir"] is None
    assert "hydra" not in config
    assert config["threads"] == 1
    assert str(done.folder) not in text


@pytest.mark.hydra
def test_config_repeats_the_run_bitwise(done: Done, tmp_path: Path) -> None:
    out = done.folder / "out"
    again = run_train(tmp_path, f"--config-path={out}", "--config-name=config", "output_dir=again")
    assert again.status == 0, again.err
    assert (tmp_path / "again/model.pt").read_bytes() == (out / "model.pt").read_bytes()
    assert (tmp_path / "again/config.yaml").read_bytes() == (out / "config.yaml").read_bytes()


@pytest.mark.hydra
def test_setting_on_a_kept_config_reaches_the_optimizer(done: Done) -> None:
    config = OmegaConf.load(done.folder / "out/config.yaml")
    config.learning_rate = 0.5
    assert config.optimizer.lr == 0.5


@pytest.mark.hydra
def test_same_line_again_prints_the_result_and_trains_nothing(done: Done) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (done.folder / "out").iterdir()}
    again = run_train(done.folder, *SHORT, "output_dir=out")
    assert again.status == 0, again.err
    assert "finished run" in again.out
    assert again.out.splitlines()[-1] == done.out.splitlines()[-1]
    assert {path.name: path.stat().st_mtime_ns for path in (done.folder / "out").iterdir()} == before


def test_another_config_is_refused_with_the_difference(done: Done) -> None:
    model = (done.folder / "out/model.pt").read_bytes()
    other = run_train(done.folder, *SHORT, "output_dir=out", "learning_rate=0.5")
    assert other.status == 2
    assert "learning_rate: 0.002 there, 0.5 here" in other.err
    assert (done.folder / "out/model.pt").read_bytes() == model


@pytest.mark.hydra
def test_a_run_with_no_folder_named_goes_to_hydras(train: Train) -> None:
    done = train(*SHORT, "epochs=1")
    assert done.status == 0, done.err
    assert len(list(done.folder.glob("outputs/*/*/metrics.json"))) == 1


def test_vertex_environment_is_honoured(train: Train, tmp_path: Path) -> None:
    where = {"AIP_MODEL_DIR": str(tmp_path / "m"), "CLOUD_ML_HP_METRIC_FILE": str(tmp_path / "o/metrics")}
    done = train(*SHORT, **where, CLOUD_ML_TRIAL_ID="7")
    assert done.status == 0, done.err
    assert {path.name for path in (tmp_path / "m").iterdir()} == ARTIFACTS
    lines = [json.loads(line) for line in (tmp_path / "o/metrics").read_text().splitlines()]
    assert [line["global_step"] for line in lines] == ["1", "2", "3", "4"]
    metrics = json.loads((tmp_path / "m/metrics.json").read_text())
    assert lines[-1]["validation_accuracy"] == str(metrics["final_val_accuracy"])
    assert {line["trial"] for line in lines} == {"7"}


@pytest.mark.hydra
def test_environment_values_are_not_written_down(train: Train, tmp_path: Path) -> None:
    done = train("epochs=1", "data.name=${oc.env:WHICH}", "output_dir=out", WHICH="breast_cancer")
    assert done.status == 0, done.err
    text = (tmp_path / "out/config.yaml").read_text()
    assert "${oc.env:WHICH}" in text
    assert "breast_cancer" not in text


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=digits", "epochs=4"),
        ("data=breast_cancer", "model.net.normalisation=batch", "model.net.residual=true", "scheduler=plateau", "epochs=4"),
        ("data=synthetic", "data.rows=2000", "optimizer=sgd", "scheduler=cosine", "batch_size=100", "epochs=4"),
    ],
    ids=lambda overrides: overrides[0],
)  # fmt: skip
def test_two_runs_of_one_config_are_bitwise_the_same(overrides: tuple[str, ...], tmp_path: Path) -> None:
    kept = []
    for name in ("a", "b"):
        run_here(tmp_path / name, *overrides)
        history = history_of(tmp_path / name)
        for row in history:
            assert float(row.pop("seconds")) > 0
        kept.append(((tmp_path / name / "model.pt").read_bytes(), history))
    assert kept[0] == kept[1]


def test_seed_changes_the_weights_and_not_the_split(tmp_path: Path) -> None:
    results = [run_here(tmp_path / str(seed), "epochs=1", f"seed={seed}") for seed in (0, 1)]
    assert (tmp_path / "0/model.pt").read_bytes() != (tmp_path / "1/model.pt").read_bytes()
    sums = [[sum(row) for row in r.metrics["validation_confusion_matrix"]] for r in results]
    assert sums[0] == sums[1]


def test_best_weights_are_kept_or_not(tmp_path: Path) -> None:
    """A rate so high that the last epoch is not the best one."""
    loud = ("data=breast_cancer", "learning_rate=0.1", "epochs=15", "patience=15", "model.net.dropout=0")
    kept = run_here(tmp_path / "best", *loud).metrics
    last = run_here(tmp_path / "last", *loud, "restore_best=false").metrics
    assert kept["best_epoch"] < 15
    assert kept["final_val_loss"] == pytest.approx(kept["best_val_loss"], abs=1e-7)
    assert last["best_epoch"] == kept["best_epoch"]
    assert last["final_val_loss"] > last["best_val_loss"]


def test_early_stopping_waits_for_patience(tmp_path: Path) -> None:
    metrics = run_here(tmp_path, "learning_rate=0.01", "patience=2", "epochs=60").metrics
    assert metrics["stopped_epoch"] == metrics["best_epoch"] + 2


def test_test_split_stays_sealed_until_asked_for(tmp_path: Path) -> None:
    split = ("data.test_fraction=0.2", "epochs=1")
    sealed = run_here(tmp_path / "sealed", *split).metrics
    opened = run_here(tmp_path / "opened", *split, "score_test=true").metrics
    assert sealed["test_rows"] == opened["test_rows"] == 359
    assert not [name for name in sealed if name.startswith("test_") and name != "test_rows"]
    assert 0 < opened["test_accuracy"] <= 1


def test_listeners_hear_each_epoch(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    run_here(tmp_path, "epochs=2", listeners=(lambda epoch, value: heard.append((epoch, value)),))
    assert [epoch for epoch, _ in heard] == [1, 2]


def test_artifacts_reach_a_url(tmp_path: Path) -> None:
    import fsspec

    run_here(tmp_path, "epochs=1", "logger=csv", "output_dir=memory://bucket/run")
    there = {path.removeprefix("/bucket/run/") for path in fsspec.filesystem("memory").find("/bucket/run")}
    assert there == {*ARTIFACTS, "logs/csv/metrics.csv", "logs/csv/hparams.yaml"}
    assert not list(tmp_path.iterdir())


def test_steps_never_repeat_where_an_epoch_is_validated_twice(tmp_path: Path) -> None:
    heard: list[int] = []
    run_here(tmp_path, "epochs=2", "+trainer.val_check_interval=0.5", listeners=(lambda step, _: heard.append(step),))
    assert heard == [1, 2, 3, 4]


@pytest.mark.parametrize("torn", [b"", b'{"final_val_loss": 0.', b"[1]"])
def test_torn_metrics_are_no_finished_run(torn: bytes, tmp_path: Path) -> None:
    whole = run_here(tmp_path, "epochs=1").metrics
    (tmp_path / "metrics.json").write_bytes(torn)
    assert run_here(tmp_path, "epochs=1").metrics == whole


def test_a_config_that_is_none_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xff{: [")
    with pytest.raises(UserError, match=r"config\.yaml: is not what a run writes.*overwrite=true"):
        run_here(tmp_path, "epochs=1")
    assert (tmp_path / "config.yaml").read_bytes() == b"\xff{: ["
