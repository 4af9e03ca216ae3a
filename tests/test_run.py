"""run() where it is easy to be wrong: repeats, odd models and trainers, other processes, other machines' variables."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from alphard import artifacts, build, locking
from alphard.data import preprocessing
from alphard.errors import TrainingError, UserError
from alphard.models import BestWeights
from alphard.run import Result, run, settings_of
from alphard.storage import Folder
from tests.conftest import ROOT, environment, run_train
from tests.in_process import config_of, run_here

QUICK = ("data=breast_cancer", "epochs=2")
Heard = list[tuple[int, float]]


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AIP_", "CLOUD_ML_", "SLURM_")) or name == "LOCAL_RANK":
            monkeypatch.delenv(name)


def steps_in(path: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(int(line["global_step"]), float(line["validation_accuracy"])) for line in lines]


# A finished run, again


def test_a_repeated_run_reports_its_final_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that a cloud restarts on another machine, which has no metric file yet, must not count as failed."""
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "first"))
    first = run_here(tmp_path / "out", *QUICK)
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "second"))
    heard: Heard = []
    again = run_here(tmp_path / "out", *QUICK, listeners=(lambda step, value: heard.append((step, value)),))
    assert again.metrics == first.metrics
    assert steps_in(tmp_path / "second") == steps_in(tmp_path / "first")[-1:] == heard
    assert heard[0][0] == first.metrics["stopped_epoch"] + 1


def test_overwriting_leaves_nothing_of_the_run_before(tmp_path: Path) -> None:
    run_here(tmp_path, *QUICK)
    old = {name for name in artifacts.ALL if (tmp_path / name).exists()}
    assert old == set(artifacts.ALL)
    with pytest.raises(TrainingError, match="training diverged"):
        run_here(tmp_path, *QUICK, "learning_rate=1e9", "optimizer=sgd", "overwrite=true")
    assert {path.name for path in tmp_path.iterdir()} == {artifacts.CONFIG, artifacts.LOG}


def test_another_value_behind_an_environment_variable_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*QUICK, "data.name=${oc.env:WHICH}", "threads=1")
    monkeypatch.setenv("WHICH", "breast_cancer")
    first = run_here(tmp_path, *asked).metrics
    assert run_here(tmp_path, *asked).metrics == first
    monkeypatch.setenv("WHICH", "digits")
    with pytest.raises(UserError, match=r"^output_dir: .* other values behind its \$\{oc\.env:…\}") as caught:
        run_here(tmp_path, *asked)
    said = str(caught.value).replace(str(tmp_path), "")
    assert "digits" not in said
    assert "breast_cancer" not in said
    monkeypatch.delenv("WHICH")
    texts = [path.read_text() for path in (tmp_path / artifacts.METRICS, tmp_path / artifacts.CONFIG)]
    assert not any("breast_cancer" in text for text in texts)


def test_where_a_run_lies_is_no_value_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat is found also where a setting refers to its folder, or to Hydra's own, which carries the time."""
    hashes = []
    for base in ("a", "b"):
        monkeypatch.setenv("BASE", base)
        where = {"output_dir": "${oc.env:BASE}/out", "there": "${hydra:runtime.cwd}", "below": "${output_dir}/x"}
        hashes.append(artifacts.resolved_sha256(OmegaConf.create(where | {"value": "${oc.env:HOME}"})))
    assert hashes[0] == hashes[1]
    monkeypatch.setenv("HOME", "/elsewhere")
    assert artifacts.resolved_sha256(OmegaConf.create(where | {"value": "${oc.env:HOME}"})) != hashes[0]


def test_env_values_reach_no_config_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECAY", "0.0123")
    behind = "${oc.decode:${oc.env:DECAY}}"
    run_here(tmp_path, *QUICK, f"optimizer.weight_decay='{behind}'", f"callbacks.early_stopping.min_delta='{behind}'")
    text = (tmp_path / artifacts.CONFIG).read_text()
    assert "0.0123" not in text
    assert OmegaConf.to_container(OmegaConf.create(text))["optimizer"]["weight_decay"] == behind  # type: ignore[index,call-overload]


def test_the_test_split_is_opened_by_the_kept_weights(tmp_path: Path) -> None:
    asked = (*QUICK, "data.test_fraction=0.2")
    sealed = run_here(tmp_path, *asked).metrics
    model = (tmp_path / artifacts.MODEL).stat().st_mtime_ns
    opened = run_here(tmp_path, *asked, "score_test=true").metrics
    assert (tmp_path / artifacts.MODEL).stat().st_mtime_ns == model
    assert opened.items() >= sealed.items()
    at_once = run_here(tmp_path / "at once", *asked, "score_test=true").metrics
    assert {name for name in opened if name.startswith("test_")} == {n for n in at_once if n.startswith("test_")}
    assert opened["test_accuracy"] == at_once["test_accuracy"]
    assert json.loads((tmp_path / artifacts.METRICS).read_text()) == opened
    assert OmegaConf.load(tmp_path / artifacts.CONFIG).score_test is True
    assert run_here(tmp_path, *asked, "score_test=true").metrics == opened
    assert run_here(tmp_path, *asked).metrics == opened  # what has been opened stays so


def test_kept_weights_that_are_lost_are_named(tmp_path: Path) -> None:
    asked = (*QUICK, "data.test_fraction=0.2")
    run_here(tmp_path, *asked)
    (tmp_path / artifacts.MODEL).write_bytes(b"")
    with pytest.raises(UserError, match=r"^output_dir: .*model\.pt does not fit this model: .*overwrite=true"):
        run_here(tmp_path, *asked, "score_test=true")
    (tmp_path / artifacts.MODEL).unlink()
    with pytest.raises(UserError, match=r"^output_dir: .*model\.pt is missing; overwrite=true"):
        run_here(tmp_path, *asked, "score_test=true")
    assert "test_accuracy" not in run_here(tmp_path, *asked).metrics


def test_what_has_no_test_split_says_so_of_a_finished_run_too(tmp_path: Path) -> None:
    run_here(tmp_path, *QUICK)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"^score_test: this data has no test split"):
        run_here(tmp_path, *QUICK, "score_test=true")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / artifacts.CURVES).mkdir()
    with pytest.raises(TrainingError, match=r"^output_dir: .*learning_curves\.png cannot be removed: "):
        run_here(tmp_path, *QUICK)


# Two at once


def test_never_do_two_hold_a_folder(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def worker(number: int) -> None:
        for _ in range(200):
            with contextlib.suppress(UserError), locking.alone_in(Folder(str(tmp_path / "out"))):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(6)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert set(most) == {1}
    assert len(most) > 100
    assert not list(tmp_path.rglob(locking.FILE))


def test_a_folder_that_a_run_writes_to_is_refused(tmp_path: Path) -> None:
    said: list[str] = []

    def another(*_: Any) -> None:
        with pytest.raises(UserError) as caught:
            run_here(tmp_path, *QUICK, "seed=1", "overwrite=true")
        said.append(str(caught.value))

    whole = run_here(tmp_path, *QUICK, listeners=(another,)).metrics
    assert len(said) == 2
    assert said[0].startswith(f"output_dir: {tmp_path}: another run writes here now (pid {os.getpid()})")
    assert {path.name for path in tmp_path.iterdir()} == set(artifacts.ALL)
    assert run_here(tmp_path, *QUICK).metrics == whole
    assert run_here(tmp_path, *QUICK, "seed=1", "overwrite=true").metrics["seed"] == 1


def test_a_run_that_another_has_finished_meanwhile_is_told_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*QUICK, "data.test_fraction=0.2")
    first = run_here(tmp_path, *asked).metrics
    really, calls = artifacts.finished, iter([None])
    monkeypatch.setattr(artifacts, "finished", lambda *given: next(calls, really(*given)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run_here(tmp_path, *asked).metrics == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_killed_run_leaves_its_folder_free(tmp_path: Path) -> None:
    hold = (
        "import time; from alphard import locking; from alphard.storage import Folder\n"
        f"with locking.alone_in(Folder({str(tmp_path / 'out')!r})):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"another run writes here now \(pid {process.pid}\)"):
            run_here(tmp_path / "out", *QUICK)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run_here(tmp_path / "out", *QUICK)
    assert not (tmp_path / "out" / locking.FILE).exists()


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="score_test"):
        run_here(tmp_path / "deep/out", *QUICK, "score_test=true")
    assert not list(tmp_path.iterdir())


# Threads


def test_no_number_of_threads_is_torchs_own_whatever_ran_before(tmp_path: Path) -> None:
    own = torch.get_num_threads()
    try:
        assert run_here(tmp_path / "a", *QUICK, f"threads={own + 1}").metrics["threads"] == own + 1
        assert run_here(tmp_path / "b", *QUICK, "threads=null").metrics["threads"] == own
    finally:
        torch.set_num_threads(own)


# What the environment says


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gs://bucket/output.metrics", "is a URL; the tuner's agent reads a file on this machine"),
        ("{folder}", "is a folder"),
        ("{folder}/file/output.metrics", "cannot be written: "),
    ],
)
def test_a_metric_file_that_cannot_be_is_named_before_training(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    path = path.format(folder=tmp_path)
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", path)
    with pytest.raises(UserError) as caught:
        run_here(tmp_path / "out", *QUICK)
    assert caught.value.status == 2
    assert str(caught.value).startswith(f"CLOUD_ML_HP_METRIC_FILE: {path}")
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bad_model_folder_is_named_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIP_MODEL_DIR", f"{tmp_path}/file/model")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", f"{tmp_path}/metrics")
    with pytest.raises(UserError, match=r"^AIP_MODEL_DIR: .*file/model"):
        run_here(tmp_path / "out", *QUICK)


def test_a_rank_that_is_none_is_named(tmp_path: Path) -> None:
    done = run_train(tmp_path, "epochs=1", cold=True, LOCAL_RANK="abc")
    assert done.status == 2
    assert (
        done.err == "error: LOCAL_RANK: 'abc': is no whole number; unset it, Lightning sets it for its own processes\n"
    )


@pytest.mark.more
def test_an_empty_rank_is_none(tmp_path: Path) -> None:
    done = run_train(tmp_path, *QUICK, "output_dir=out", cold=True, LOCAL_RANK="", RANK="")
    assert done.status == 0, done.err
    assert (tmp_path / "out" / artifacts.METRICS).exists()


class Boom:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_slurm_brings_no_checkpoint_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning on Slurm goes on from any hpc_ckpt_N.ckpt in its root folder, or in the current one."""
    for folder in (tmp_path / "out", tmp_path):
        folder.mkdir(exist_ok=True)
        torch.save({"state_dict": {}, "boom": Boom(tmp_path / "boom")}, folder / "hpc_ckpt_1.ckpt")
    monkeypatch.chdir(tmp_path)
    slurm = {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before = signal.getsignal(signal.SIGUSR1)
    assert run_here(tmp_path / "out", *QUICK).metrics["stopped_epoch"] == 2
    assert not (tmp_path / "boom").exists()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert os.environ["SLURM_JOB_NAME"] == "train"


# What a trainer may be asked for


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+trainer.limit_val_batches=0", "trainer.limit_val_batches: 0: "),
        ("+trainer.limit_train_batches=0", "trainer.limit_train_batches: 0: "),
        ("+trainer.max_steps=0", "trainer.max_steps: 0: "),
        ("trainer.max_epochs=0", "trainer.max_epochs: 0: "),
        ("+trainer.barebones=true", "trainer.barebones: True: "),
        ("+trainer.default_root_dir=gs://bucket/x", "trainer.default_root_dir: gs://bucket/x: "),
        ("trainer=gpu", "trainer.accelerator: gpu: no GPU is seen here; trainer=auto"),
    ],
)
def test_a_trainer_that_cannot_give_a_result_is_refused(override: str, said: str, tmp_path: Path) -> None:
    if override == "trainer=gpu" and torch.cuda.is_available():
        override, said = "trainer.accelerator=tpu", "trainer"
    with pytest.raises(UserError) as caught:
        run_here(tmp_path / "out", *QUICK, override)
    assert str(caught.value).startswith(said)
    assert caught.value.status == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "epochs", "heard"),
    [
        (("+trainer.max_steps=3",), 1, [1]),
        (("+trainer.max_steps=10", "epochs=9"), 2, [1, 2]),  # eight steps an epoch
        (("+trainer.max_steps=3", "callbacks=none"), 1, [1]),
        (("+trainer.fast_dev_run=true",), 1, [1]),
        (("+trainer.check_val_every_n_epoch=5", "epochs=3"), 3, []),
        (("+trainer.check_val_every_n_epoch=2", "epochs=3", "scheduler=plateau"), 3, [2]),
        (("+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1"), 2, [1, 2]),
        (("+trainer.overfit_batches=1",), 2, [1, 2]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple | list) else None,
)
def test_a_shorter_training_is_scored_all_the_same(
    overrides: tuple[str, ...], epochs: int, heard: list[int], tmp_path: Path
) -> None:
    said: list[int] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*overfit_batches.*")
        result = run_here(tmp_path, *QUICK, *overrides, listeners=(lambda step, _: said.append(step),))
    metrics = result.metrics
    assert said == heard
    assert metrics["stopped_epoch"] == epochs
    assert metrics["val_rows"] == 114
    assert sum(map(sum, metrics["validation_confusion_matrix"])) == 114
    right = sum(row[place] for place, row in enumerate(metrics["validation_confusion_matrix"]))
    assert metrics["final_val_accuracy"] == pytest.approx(right / 114, abs=1e-6)
    if heard and "limit" not in overrides[0] and "overfit" not in overrides[0] and "fast" not in overrides[0]:
        assert metrics["final_val_loss"] == pytest.approx(metrics["best_val_loss"], abs=1e-6)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true", "bf16-mixed"])
def test_a_run_is_judged_in_its_own_precision(precision: str, tmp_path: Path) -> None:
    # Adam's own epsilon is 0 in half precision.
    metrics = run_here(tmp_path, *QUICK, f"trainer.precision='{precision}'", "optimizer.eps=1e-4").metrics
    assert metrics["final_val_accuracy"] > 0.8
    assert 0.9 < metrics["validation_auroc"] <= 1
    weights = torch.load(tmp_path / artifacts.MODEL, weights_only=True)
    kinds = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
    assert {w.dtype for w in weights.values()} == {kinds.get(precision, torch.float32)}
    right = sum(row[place] for place, row in enumerate(metrics["validation_confusion_matrix"]))
    assert metrics["final_val_accuracy"] == pytest.approx(right / 114, abs=1e-6)


def test_clipping_beside_a_fused_optimizer_names_the_way_out(tmp_path: Path) -> None:
    asked = (*QUICK, "trainer.precision=bf16-mixed", "+trainer.gradient_clip_val=1.0")
    with pytest.raises(UserError, match=r"^trainer\.gradient_clip_val: 1\.0: .*optimizer\.fused=false"):
        run_here(tmp_path / "out", *asked)
    assert not list(tmp_path.iterdir())
    assert run_here(tmp_path / "out", *asked, "optimizer.fused=false").metrics["final_val_accuracy"] > 0.8


# Callbacks of Lightning's own


def test_checkpoints_of_lightnings_own_are_written(tmp_path: Path) -> None:
    mine = "+callbacks.mine={_target_: pytorch_lightning.callbacks.ModelCheckpoint, monitor: validation_loss}"
    run_here(tmp_path, *QUICK, mine)
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1


@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar", "RichModelSummary", "ModelSummary"])
def test_lightnings_own_way_to_show_is_taken(name: str, tmp_path: Path) -> None:
    where = "pytorch_lightning.callbacks"
    result = run_here(tmp_path, *QUICK, f"+callbacks.mine._target_={where}.{name}")
    assert result.metrics["stopped_epoch"] == 2


AVERAGE = "+callbacks.average={_target_: pytorch_lightning.callbacks.EMAWeightAveraging, decay: 0.9}"


@pytest.mark.parametrize("restore", ["true", "false"])
def test_averaged_weights_are_those_that_are_kept(restore: str, tmp_path: Path) -> None:
    """Validation is of the average; so is what is kept, wherever the callback stands."""
    heard: Heard = []
    asked = (*QUICK, "epochs=4", "learning_rate=0.01", f"restore_best={restore}", AVERAGE)
    metrics = run_here(tmp_path, *asked, listeners=(lambda step, value: heard.append((step, value)),)).metrics
    reported = metrics["best_val_loss"] if restore == "true" else None
    if reported is not None:
        assert metrics["final_val_loss"] == pytest.approx(reported, abs=1e-6)
    else:
        assert metrics["final_val_accuracy"] == pytest.approx(heard[-1][1], abs=1e-6)


def test_an_average_taken_only_after_training_does_not_go_with_the_best_epoch(tmp_path: Path) -> None:
    average = "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.01}"
    with pytest.raises(UserError, match=r"^callbacks: StochasticWeightAveraging .*restore_best=false"):
        run_here(tmp_path / "out", *QUICK, average)


# Models of other kinds


class Other(pl.LightningModule):
    """A model that logs what it should, and whose `forward` returns what `out` says."""

    def __init__(self, features: int, classes: int, out: str, **more: float) -> None:
        super().__init__()
        self.out, self.more = out, more
        width = {"one": 1, "rows": features, "classes": classes, "flat": classes}[out]
        self.net, self.head = nn.Linear(features, width), nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out.argmax(1) if self.out == "flat" else out

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return F.cross_entropy(self.head(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        logits = self.head(batch[0])
        self.log("validation_loss", F.cross_entropy(logits, batch[1]))
        self.log("validation_accuracy", (logits.argmax(1) == batch[1]).float().mean())
        for name, value in self.more.items():
            self.log(name, value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def with_model(monkeypatch: pytest.MonkeyPatch, out: str, **more: float) -> None:
    def make(_: Any, facts: dict[str, Any]) -> pl.LightningModule:
        return Other(facts["features"], facts["classes"], out, **more)

    monkeypatch.setattr(build, "model_of", make)


@pytest.mark.parametrize(("out", "shape"), [("one", "(114, 1)"), ("rows", "(114, 30)"), ("flat", "(114,)")])
def test_what_is_no_row_of_logits_gets_no_report(
    out: str, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model(monkeypatch, out)
    with pytest.warns(UserWarning, match="no full report") as caught:
        metrics = run_here(tmp_path, *QUICK).metrics
    assert [str(w.message) for w in caught] == [
        f"no full report: Other.forward returned {shape}; it takes logits, (114, 2)"
    ]
    assert "final_val_accuracy" in metrics
    assert not [name for name in metrics if name.endswith(("auroc", "confusion_matrix"))]
    assert not (tmp_path / artifacts.CONFUSION).exists()


def test_an_extra_metric_that_is_no_number_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_model(monkeypatch, "classes", validation_extra=float("nan"), validation_more=float("inf"))
    with pytest.warns(UserWarning, match="metrics.json") as caught:
        first = run_here(tmp_path, *QUICK).metrics
    assert [str(w.message) for w in caught] == [
        "metrics.json: validation_extra, validation_more: no finite number; null stands there"
    ]
    written = json.loads((tmp_path / artifacts.METRICS).read_text())
    assert (written["validation_extra"], written["validation_more"]) == (None, None)
    assert first == written == run_here(tmp_path, *QUICK).metrics


def test_an_objective_that_is_no_number_in_the_end_leaves_no_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model(monkeypatch, "classes")
    monkeypatch.setattr("alphard.scores.logged", lambda *_: {"validation_accuracy": float("nan")})
    with pytest.raises(TrainingError, match=r"^validation_accuracy: nan with the weights that are kept"):
        run_here(tmp_path, *QUICK)
    assert not (tmp_path / artifacts.METRICS).exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.net={_target_: torch.nn.Flatten, _partial_: true}",), "model.net: "),
        (("model.net={_target_: torch.nn.Identity, _partial_: true}",), "model.net: Identity has no parameters"),
        (
            ("model.net={_target_: torch.nn.Linear, in_features: 30, out_features: 2}",),
            "model.net: Linear is built already",
        ),
        (("model.net={_target_: torch.optim.SGD, _partial_: true}",), "model.net: "),
    ],
)
def test_a_net_that_is_none_is_refused(overrides: tuple[str, ...], said: str, tmp_path: Path) -> None:
    from alphard.compose import compose

    config = compose(ROOT / "configs", [*QUICK, "threads=1", "~model.net"])
    OmegaConf.update(config, "model.net", OmegaConf.from_dotlist(list(overrides)).model.net, force_add=True)
    with pytest.raises(UserError) as caught:
        run(config, str(tmp_path / "out"), **settings_of(config))
    assert str(caught.value).startswith(said)
    assert not list(tmp_path.iterdir())


# The last lines


@pytest.mark.more
def test_the_line_that_repeats_a_run_works_from_here(tmp_path: Path) -> None:
    done = run_train(tmp_path, *QUICK, "output_dir=out")
    assert f"repeat: python {ROOT}/train.py --config-path={tmp_path}/out --config-name=config" in done.out
    line = next(line for line in done.out.splitlines() if line.startswith("repeat: ")).removeprefix("repeat: python ")
    again = subprocess.run(
        [sys.executable, *line.split()], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == done.out.splitlines()[-1]


def test_a_result_is_what_metrics_json_says(tmp_path: Path) -> None:
    result = run_here(tmp_path, *QUICK)
    assert isinstance(result, Result)
    assert json.loads((tmp_path / artifacts.METRICS).read_text()) == result.metrics
    assert (tmp_path / preprocessing.FILE).exists()
    assert isinstance(BestWeights("x").monitor, str)
    assert config_of(*QUICK).data.name == "breast_cancer"
