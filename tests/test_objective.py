"""The objective as a tuner sees it: Vertex AI's metric file, with cloudml-hypertune as the oracle, and what goes in."""

import json
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import hypertune
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alphard.data import Synthetic
from alphard.errors import TrainingError, UserError
from alphard.models import Classifier, Linear
from alphard.objective import LINES, METRIC_FILE, MetricFile, Reporter, say
from alphard.quiet import quiet

WATCHED = ("CLOUD_ML_HP_METRIC_FILE", "CLOUD_ML_TRIAL_ID", "CLOUD_ML_JOB_ID", "AIP_MODEL_DIR")
Calls = list[tuple[str, float, int]]


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WATCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def metric_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that a cloud tuner watches."""
    path = tmp_path / "deep" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    return path


def timeless(path: Path) -> list[str]:
    """The file's lines as they were written, timestamps apart, which must be numbers."""
    lines = []
    for line in path.read_text().splitlines(keepends=True):
        fields = json.loads(line)
        stamp = fields.pop("timestamp")
        assert isinstance(stamp, float)
        lines.append(line.replace(json.dumps(stamp), "0"))
    return lines


# The file


def both(folder: Path, trial: str, calls: Calls) -> tuple[list[str], list[str]]:
    """What we write and what cloudml-hypertune writes, for the same calls."""
    ours, theirs = folder / "ours" / "output.metrics", folder / "theirs" / "output.metrics"
    file = MetricFile(ours, trial)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CLOUD_ML_HP_METRIC_FILE", str(theirs))
        environment.setenv("CLOUD_ML_TRIAL_ID", trial)
        oracle = hypertune.HyperTune()
    for tag, value, step in calls:
        file.report(tag, value, step)
        oracle.report_hyperparameter_tuning_metric(tag, value, step)
    return timeless(ours), timeless(theirs)


@given(
    trial=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=5),
    calls=st.lists(
        st.tuples(st.text(min_size=1, max_size=30), st.floats() | st.integers(-(2**53), 2**53), st.integers(0, 10**6)),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=50, deadline=None)
def test_file_is_what_cloudml_hypertune_writes(
    tmp_path_factory: pytest.TempPathFactory, trial: str, calls: Calls
) -> None:
    ours, theirs = both(tmp_path_factory.mktemp("metrics"), trial, calls)
    assert ours == theirs


@pytest.mark.parametrize("count", [1, LINES - 1, LINES, LINES + 1, 3 * LINES])
def test_file_keeps_as_many_lines_as_cloudml_hypertune(tmp_path: Path, count: int) -> None:
    ours, theirs = both(tmp_path, "3", [("accuracy", 1 / (i + 1), i) for i in range(count)])
    assert ours == theirs
    assert len(ours) == min(count, LINES)


def test_file_is_written_in_place(tmp_path: Path) -> None:
    file = MetricFile(tmp_path / "output.metrics", "1")
    file.report("accuracy", 0.5, 1)
    before = (tmp_path / "output.metrics").stat().st_ino
    file.report("accuracy", 0.6, 2)
    assert (tmp_path / "output.metrics").stat().st_ino == before
    assert os.listdir(tmp_path) == ["output.metrics"]


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "output.metrics"
    with pytest.raises(TrainingError, match=rf"^CLOUD_ML_HP_METRIC_FILE: {path} cannot be written: "):
        MetricFile(path, "1").report("accuracy", 0.5, 1)


@pytest.mark.parametrize("name", WATCHED)
def test_any_of_the_clouds_variables_asks_for_the_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert MetricFile.of_environment() is None
    monkeypatch.setenv(name, "")
    assert MetricFile.of_environment() is None
    monkeypatch.setenv(name, "5")
    file = MetricFile.of_environment()
    assert file is not None
    assert file.path == Path("5" if name == "CLOUD_ML_HP_METRIC_FILE" else METRIC_FILE)
    assert file.trial == ("5" if name == "CLOUD_ML_TRIAL_ID" else "0")


# The reporter


class Steps(pl.Callback):
    """Counts optimizer steps."""

    count = 0

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.count += 1


class Diverging(Classifier):
    """Its weights are no numbers once the epoch `at`, counted from 1, is trained."""

    at: int

    def on_train_epoch_end(self) -> None:
        if self.current_epoch + 2 == self.at:
            with torch.no_grad():
                for weight in self.parameters():
                    weight.fill_(math.nan)


def model(kind: type[Classifier] = Classifier) -> Classifier:
    torch.manual_seed(0)
    return kind(4, 3, Linear, partial(torch.optim.SGD, lr=0.1))


def fit(module: pl.LightningModule, *callbacks: pl.Callback, epochs: int = 3, **given: Any) -> pl.Trainer:
    """Train on the CPU as run() does, with one batch of validation before the first step."""
    with quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=epochs,
            callbacks=list(callbacks),
            **{"num_sanity_val_steps": 1} | given,
        )
        trainer.fit(module, datamodule=Synthetic(rows=100, features=4, classes=3, batch_size=20))
    return trainer


def test_every_validation_is_reported_once_and_to_everyone(metric_file: Path, capsys: Any) -> None:
    heard: list[tuple[int, float]] = []
    also: list[tuple[int, float]] = []
    listeners = (lambda *said: heard.append(said), lambda *said: also.append(said))
    reporter = Reporter("validation_accuracy", lines=True, listeners=listeners)
    trainer = fit(model(), reporter)
    assert [epoch for epoch, _ in heard] == [1, 2, 3]
    assert heard == also
    assert heard[-1][1] == float(trainer.callback_metrics["validation_accuracy"])
    written = [json.loads(line) for line in metric_file.read_text().splitlines()]
    assert [(int(line["global_step"]), float(line["validation_accuracy"])) for line in written] == heard
    assert {line["trial"] for line in written} == {"7"}
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("validation_accuracy: ")] == [
        f"validation_accuracy: {value:.6f}" for _, value in heard
    ]


def test_lines_can_be_off(capsys: Any) -> None:
    fit(model(), Reporter("validation_loss", lines=False), epochs=1)
    assert capsys.readouterr().out == ""


def test_validation_every_second_epoch_is_reported_by_its_own_epoch() -> None:
    heard: list[int] = []
    reporter = Reporter("validation_loss", lines=False, listeners=(lambda epoch, _: heard.append(epoch),))
    fit(model(), reporter, epochs=4, check_val_every_n_epoch=2)
    assert heard == [2, 4]


def test_another_ranks_reporter_is_silent(metric_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    heard: list[int] = []
    reporter = Reporter("validation_loss", lines=True, listeners=(lambda epoch, _: heard.append(epoch),))
    fit(model(), reporter, epochs=1)
    assert heard == []
    assert not metric_file.exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("objective", "hint"),
    [
        ("validation_acuracy", "; did you mean `validation_accuracy`?"),
        ("zzz", "."),
        ("train_loss", "; did you mean `validation_loss`?"),  # logged, but not at validation
    ],
)
def test_objective_that_is_never_logged_is_refused_before_the_first_step(
    metric_file: Path, objective: str, hint: str
) -> None:
    steps = Steps()
    with pytest.raises(UserError) as caught:
        fit(model(), steps, Reporter(objective, lines=True))
    assert str(caught.value) == (
        f"objective: the model logs no {objective} at validation{hint} "
        "It logs validation_accuracy, validation_balanced_accuracy, validation_loss"
    )
    assert steps.count == 0
    assert not metric_file.exists()


def test_without_that_first_batch_it_is_refused_after_the_first_epoch() -> None:
    steps = Steps()
    with pytest.raises(UserError, match=r"^objective: the model logs no zzz"):
        fit(model(), steps, Reporter("zzz", lines=False), num_sanity_val_steps=0)
    assert steps.count == 4


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("objective", ["validation_loss", "validation_accuracy"])
def test_diverged_run_stops_at_its_epoch_and_reports_nothing_false(
    metric_file: Path, capsys: Any, objective: str, at: int
) -> None:
    heard: list[tuple[int, float]] = []
    diverging = model(Diverging)
    assert isinstance(diverging, Diverging)
    diverging.at = at
    if at == 1:
        diverging.net.weight.data.fill_(math.nan)  # type: ignore[operator]
    reporter = Reporter(objective, lines=True, listeners=(lambda *said: heard.append(said),))
    with pytest.raises(TrainingError, match=rf"^validation_loss: nan in epoch {at}; training diverged"):
        fit(diverging, reporter)
    assert [epoch for epoch, _ in heard] == list(range(1, at))
    assert all(math.isfinite(value) for _, value in heard)
    lines = metric_file.read_text().splitlines() if metric_file.exists() else []
    assert len(lines) == at - 1
    assert "nan" not in "".join(lines).lower() + capsys.readouterr().out.lower()


def test_final_value_is_one_step_after_the_last_epoch_and_the_last_line(metric_file: Path, capsys: Any) -> None:
    reporter = Reporter("validation_accuracy", lines=False)
    fit(model(), reporter, epochs=2)
    reporter.final({"validation_accuracy": 0.9876543, "validation_loss": 0.25}, epochs=2)
    last = json.loads(metric_file.read_text().splitlines()[-1])
    assert (last["global_step"], last["validation_accuracy"]) == ("3", "0.9876543")
    assert capsys.readouterr().out == "validation_loss: 0.250000\nvalidation_accuracy: 0.987654\n"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_final_value_that_is_no_number_is_an_error(metric_file: Path, capsys: Any, value: float) -> None:
    with pytest.raises(TrainingError, match=r"^validation_loss: .* with the weights that are kept"):
        Reporter("validation_loss", lines=True).final({"validation_loss": value}, epochs=2)
    assert not metric_file.exists()
    assert capsys.readouterr().out == ""


def test_objective_is_the_last_line_and_training_metrics_are_not_said(capsys: Any) -> None:
    say({"validation_b": 1.0, "score": 0.5, "train_loss": 3.0, "validation_a": 2.0}, "score")
    assert capsys.readouterr().out == "validation_a: 2.000000\nvalidation_b: 1.000000\nscore: 0.500000\n"
