"""A run that is cut off goes on: bitwise, from the newest whole checkpoint, and only where it may."""

import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from alphard import artifacts, build, checkpoint, going_on, run
from alphard.checkpoint import MARK, Store
from alphard.errors import Interrupted, UserError
from alphard.storage import Folder
from tests.conftest import run_train
from tests.in_process import run_here
from tests.killing import cut_at, left_by, resumptions, training, wait_for
from tests.test_run import Boom, Other
from tests.test_train import ARTIFACTS

# Eight steps an epoch, the last of them short.
SHORT = ("data=breast_cancer", "epochs=4")
ALWAYS = "checkpoint_seconds=0"
# Without plots and the full report.
train, cut = partial(run_here, lean=True), partial(cut_at, lean=True)


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AIP_", "CLOUD_ML_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHORT, never cut off."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, *SHORT)
    return folder


def checkpoints_in(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*.ckpt"))


# The same result


def test_killed_twice_and_started_again_a_command_ends_as_if_it_never_was(tmp_path: Path) -> None:
    line = ("data=breast_cancer", "epochs=15", "model.net.normalisation=batch", "threads=1", "patience=3")
    assert run_train(tmp_path, *line, "output_dir=whole").status == 0
    out = tmp_path / "out"
    for _ in range(2):
        before = checkpoints_in(out)
        with training(tmp_path, *line, "output_dir=out", ALWAYS) as process:
            assert wait_for(lambda last=before[-1:]: checkpoints_in(out)[-1:] > last, process)
            process.kill()
    done = run_train(tmp_path, *line, "output_dir=out")
    assert done.status == 0, done.err
    assert left_by(out) == left_by(tmp_path / "whole")
    assert {path.name for path in out.iterdir()} == ARTIFACTS
    assert len(resumptions(out)) == 2
    assert resumptions(out)[-1] in done.out


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.net.normalisation=batch", "scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "learning_rate=0.1"),
        ("scheduler=cosine", "batch_size=13", "optimizer=adam"),
        ("+trainer.val_check_interval=0.4", "patience=2", "learning_rate=0.02", "epochs=30"),
        pytest.param(("+trainer.max_steps=26", "scheduler=plateau", "scheduler.patience=0", "learning_rate=0.05"), marks=pytest.mark.more),
        pytest.param(("+trainer.accumulate_grad_batches=3",), marks=pytest.mark.more),
        pytest.param(("+trainer.check_val_every_n_epoch=2", "+trainer.reload_dataloaders_every_n_epochs=1"), marks=pytest.mark.more),
        pytest.param(("batch_size=null", "epochs=20"), marks=pytest.mark.more),
        pytest.param(("trainer.precision=bf16-mixed",), marks=pytest.mark.more),
        ("+callbacks.average={_target_: pytorch_lightning.callbacks.EMAWeightAveraging, decay: 0.9}",),
    ],
    ids=lambda overrides: overrides[0],
)  # fmt: skip
def test_whatever_is_trained_it_ends_as_if_it_never_was_cut_off(overrides: tuple[str, ...], tmp_path: Path) -> None:
    train(tmp_path / "whole", *SHORT, *overrides)
    for step in (6, 5):
        cut(step, tmp_path / "out", *SHORT, *overrides, ALWAYS)
    train(tmp_path / "out", *SHORT, *overrides)
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")
    assert len(resumptions(tmp_path / "out")) == 2


@pytest.mark.parametrize("step", [8 * 2 + 3, 8 * 4 + 3])
def test_weights_that_are_averaged_go_on_from_before_that(step: int, tmp_path: Path) -> None:
    swa = "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.01, swa_epoch_start: 4}"
    line = ("data=breast_cancer", "epochs=6", "restore_best=false", "scheduler=cosine", swa)
    train(tmp_path / "whole", *line)
    cut(step, tmp_path / "out", *line, ALWAYS)
    train(tmp_path / "out", *line)
    (said,) = resumptions(tmp_path / "out")
    assert f"step {min(step - 1, 8 * 3)}, from" in said
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")


def test_with_checkpoints_or_without_a_run_is_the_same(tmp_path: Path, whole: Path) -> None:
    train(tmp_path / "always", *SHORT, ALWAYS)
    train(tmp_path / "never", *SHORT, "checkpoint_seconds=null")
    assert left_by(tmp_path / "always") == left_by(whole) == left_by(tmp_path / "never")


def test_the_log_goes_on_and_says_where(tmp_path: Path, whole: Path) -> None:
    cut(12, tmp_path, *SHORT, ALWAYS)
    assert [path.name for path in checkpoints_in(tmp_path)] == [f"step-{step:012}.ckpt" for step in (10, 11)]
    began = (tmp_path / "training.log").read_text()
    assert began.count("epoch: ") == 1
    (tmp_path / "training.log").write_text(f"{began}half a li")
    train(tmp_path, *SHORT)
    said = (tmp_path / "training.log").read_text()
    last = tmp_path / "checkpoints/step-000000000011.ckpt"
    assert said.startswith(f"{began}half a li\nresumed at epoch 2, step 11, from {last}\n")
    assert said.count("epoch: ") == 4
    assert not (tmp_path / "checkpoints").exists()


def test_a_short_run_writes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "add", lambda *_: pytest.fail("written"))
    train(tmp_path, *SHORT)


def test_a_model_of_ones_own_goes_on_between_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "model_of", lambda _, facts: Other(facts["features"], facts["classes"], "classes"))
    train(tmp_path / "whole", *SHORT)
    really, seen = Other.training_step, []

    def counted(*args: Any) -> Any:
        seen.append(1)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return really(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Other, "training_step", counted)
        with pytest.raises(SystemExit):
            train(tmp_path / "out", *SHORT, ALWAYS)
    train(tmp_path / "out", *SHORT)
    assert "resumed at epoch 3, step 16, from" in resumptions(tmp_path / "out")[0]
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")


def test_a_callback_whose_state_cannot_be_kept_costs_only_the_checkpoints(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytorch_lightning.callbacks.EarlyStopping.state_dict", lambda _: {"boom": Boom(tmp_path / "boom")}
    )
    with pytest.warns(UserWarning, match=r"^checkpoints: EarlyStopping.* keeps more than .*none are written"):
        train(tmp_path / "out", *SHORT, ALWAYS)
    assert left_by(tmp_path / "out") == left_by(whole)
    assert not (tmp_path / "boom").exists()


class Loaders(pl.LightningDataModule):
    """Data of another kind: stock DataLoaders, which draw each epoch's order from torch's own generator."""

    def __init__(self, rows: int = 200) -> None:
        super().__init__()
        X = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))
        self.rows, self.facts = TensorDataset(X, (X[:, 0] > 0).long()), {"features": 5, "classes": 2}
        self.facts["class_counts"] = [100, 100]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows, batch_size=32, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows, batch_size=64)


@pytest.mark.filterwarnings("ignore:no full report")
def test_data_of_another_kind_goes_on_between_epochs_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "data_of", lambda *_, **__: Loaders())
    train(tmp_path / "whole", *SHORT)
    cut(7 * 2 + 3, tmp_path / "out", *SHORT, ALWAYS)
    train(tmp_path / "out", *SHORT)
    assert "resumed at epoch 3, step 14, from" in resumptions(tmp_path / "out")[0]
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")


# Torn and corrupt files


def signed(payload: bytes) -> bytes:
    return MARK + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def pickled(path: Path) -> bytes:
    """A file whose checksum is right, and which would run code."""
    content = io.BytesIO()
    torch.save({"boom": Boom(path)}, content)
    return signed(content.getvalue())


MUTATIONS: dict[str, Callable[[bytes, Path], bytes]] = {
    "empty": lambda _, __: b"",
    "half": lambda content, _: content[: len(content) // 2],
    "one byte short": lambda content, _: content[:-1],
    "one byte long": lambda content, _: content + b"\0",
    "a bit flipped": lambda content, _: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "another checksum": lambda content, _: MARK + b"0" * 64 + content[len(MARK) + 64 :],
    "no checkpoint": lambda content, _: content[len(MARK) :],
    "a list": lambda _, __: signed(b"[]"),
    "code": lambda _, folder: pickled(folder / "boom"),
}


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """SHORT, cut off: its files."""
    folder = tmp_path_factory.mktemp("cut")
    cut(12, folder, *SHORT, ALWAYS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def laid(remains: dict[str, bytes], folder: Path) -> list[Path]:
    for name, content in remains.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return checkpoints_in(folder)


@pytest.mark.parametrize("how", MUTATIONS)
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(
    how: str, remains: dict[str, bytes], tmp_path: Path, whole: Path
) -> None:
    before, last = laid(remains, tmp_path / "out")
    last.write_bytes(MUTATIONS[how](last.read_bytes(), tmp_path))
    with pytest.warns(UserWarning, match=f"^{last} .*; the one before it is used$"):
        train(tmp_path / "out", *SHORT)
    assert resumptions(tmp_path / "out") == [f"resumed at epoch 2, step 10, from {before}"]
    assert left_by(tmp_path / "out") == left_by(whole)
    assert not (tmp_path / "boom").exists()


def test_a_torn_checkpoint_goes_with_the_next_one(remains: dict[str, bytes], tmp_path: Path) -> None:
    last = laid(remains, tmp_path)[-1]
    last.write_bytes(b"")
    (tmp_path / "checkpoints/.step-000000000012.ckpt.abc").write_bytes(b"half of it")
    with pytest.warns(UserWarning, match="no checkpoint"):
        cut(1 + 5, tmp_path, *SHORT, ALWAYS)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {f"step-{n:012}.ckpt" for n in (14, 15)}


def test_where_none_is_whole_the_run_begins_anew(remains: dict[str, bytes], tmp_path: Path, whole: Path) -> None:
    for path in laid(remains, tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="torn or corrupt") as warned:
        train(tmp_path, *SHORT)
    assert len(warned) == 2
    assert left_by(tmp_path) == left_by(whole)
    assert not resumptions(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


# What may not go on


def test_never_trains_anew_and_must_wants_a_checkpoint(remains: dict[str, bytes], tmp_path: Path, whole: Path) -> None:
    laid(remains, tmp_path / "out")
    train(tmp_path / "out", *SHORT, "resume=never")
    assert not resumptions(tmp_path / "out")
    assert left_by(tmp_path / "out") == left_by(whole)
    assert not (tmp_path / "out/checkpoints").exists()
    train(tmp_path / "out", *SHORT, "resume=must")  # it is finished
    with pytest.raises(UserError, match=r"^resume: must: .*/new/checkpoints holds no whole checkpoint .*resume=auto"):
        train(tmp_path / "new", *SHORT, "resume=must")
    assert not (tmp_path / "new").exists()
    laid(remains, tmp_path / "must")
    train(tmp_path / "must", *SHORT, "resume=must")
    assert len(resumptions(tmp_path / "must")) == 1
    with pytest.raises(UserError, match=r"^resume: must: beside overwrite=true"):
        train(tmp_path / "new", *SHORT, "resume=must", "overwrite=true")
    with pytest.raises(UserError, match=r"^resume: 'sometimes': should be 'auto', 'never' or 'must'"):
        train(tmp_path / "new", *SHORT, "resume=sometimes")


def test_a_finished_run_leaves_none_whenever_it_was_killed(remains: dict[str, bytes], tmp_path: Path) -> None:
    train(tmp_path, *SHORT)
    laid({name: content for name, content in remains.items() if "step-" in name}, tmp_path)
    train(tmp_path, *SHORT)
    assert not (tmp_path / "checkpoints").exists()


def test_another_configs_checkpoints_are_refused_and_overwritten(remains: dict[str, bytes], tmp_path: Path) -> None:
    last = laid(remains, tmp_path)[-1]
    (tmp_path / artifacts.CONFIG).unlink()
    with pytest.raises(UserError, match=rf"^output_dir: {last} is of another config's run \(seed: 0 there, 1 here\)"):
        train(tmp_path, *SHORT, "seed=1")
    assert last.exists()
    train(tmp_path, *SHORT, "seed=1", "overwrite=true")
    assert not (tmp_path / "checkpoints").exists()
    assert not resumptions(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("version", "pytorch_lightning 1.0", "was written by pytorch_lightning 1.0, and this is"),
        ("ranks", 4, "was written by 4 processes, and these are 1"),
        ("resolved", "x", "is of a run with other values behind its"),
        ("state_dict", {}, "does not fit this run: "),
        ("rows", 7, "the rows have changed since"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(
    name: str, value: Any, said: str, remains: dict[str, bytes], tmp_path: Path
) -> None:
    last = laid(remains, tmp_path)[-1]
    last.write_bytes(checkpoint.dumps(checkpoint.loads(last.read_bytes()) | {name: value}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        train(tmp_path, *SHORT)
    assert said in str(caught.value)
    assert str(last) in str(caught.value)
    assert str(caught.value).endswith("resume=never trains anew")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_rows_that_have_changed_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(300, 4)).astype(np.float32), np.arange(300) % 2
    np.savez(tmp_path / "train.npz", X_train=X, y_train=y)
    np.savez(tmp_path / "val.npz", X_val=X[:100], y_val=y[:100])
    line = ("data=npz", f"data.train={tmp_path}/train.npz", f"data.validation={tmp_path}/val.npz", "epochs=3")
    cut_at(8, tmp_path / "out", *line, ALWAYS)
    X[17, 2] += 1
    np.savez(tmp_path / "train.npz", X_train=X, y_train=y)
    with pytest.raises(UserError, match=r"^data: the rows have changed since .*; resume=never trains anew"):
        run_here(tmp_path / "out", *line)
    run_here(tmp_path / "out", *line, "resume=never")


# Where they lie


def test_a_clouds_folder_for_checkpoints_is_used_and_left_empty(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", str(tmp_path / "kept/"))
    cut(12, tmp_path / "out", *SHORT, ALWAYS)
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert not (tmp_path / "out/checkpoints").exists()
    train(tmp_path / "another", *SHORT)  # the machine is gone, and its disk with it
    assert left_by(tmp_path / "another") == left_by(whole)
    assert len(resumptions(tmp_path / "another")) == 1
    assert not (tmp_path / "kept").exists()


def test_each_job_and_each_trial_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(folder: str) -> str:
        found = run._checkpoint_dir(Folder(folder))
        return found.path if found else ""

    assert at("/out") == ""
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", "/ck/")
    assert at("/out") == "/ck"
    assert at("/studies/mlp/trials/12") == "/ck/trials/12"
    monkeypatch.setenv("AIP_MODEL_DIR", "/job/3/model/")
    assert at("/job/3/model") == "/ck"
    assert at("/job/3/model/trials/2") == "/ck/trials/2"


def test_a_folder_for_checkpoints_that_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", f"{tmp_path}/file/kept")
    with pytest.raises(UserError, match=r"^AIP_CHECKPOINT_DIR: .*file/kept"):
        train(tmp_path / "out", *SHORT)
    assert not (tmp_path / "out").exists()


def test_a_url_keeps_checkpoints_and_the_log(tmp_path: Path, whole: Path) -> None:
    import fsspec

    place, url = fsspec.filesystem("memory"), f"memory://bucket/{tmp_path.name}"
    cut(12, tmp_path, *SHORT, ALWAYS, f"output_dir={url}")
    there = {path.rpartition("/")[2] for path in place.find(url)}
    assert there == {"config.yaml", "training.log", *(f"step-{n:012}.ckpt" for n in (10, 11))}
    train(tmp_path, *SHORT, f"output_dir={url}")
    assert {path.rpartition("/")[2] for path in place.find(url)} == ARTIFACTS - {
        "learning_curves.png",
        "confusion_matrix.png",
        "curves.json",
    }
    assert place.cat(f"{url}/model.pt") == (whole / "model.pt").read_bytes()
    log = place.cat(f"{url}/training.log").decode()
    assert log.count("epoch: ") == 4
    assert f"resumed at epoch 2, step 11, from {url}/checkpoints/step-000000000011.ckpt\n" in log


def test_a_write_that_fails_is_told_and_training_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, failing = Folder._write, iter([False, True, False])

    def full(self: Folder, name: str, content: bytes) -> str:
        if name.startswith("step-") and next(failing, False):
            raise OSError(28, "No space left on device")
        return really(self, name, content)

    monkeypatch.setattr(Folder, "_write", full)
    train(tmp_path, *SHORT, ALWAYS)
    said = (tmp_path / "training.log").read_text()
    assert "step-000000000002.ckpt cannot be written: No space left on device; the disk is full; make room" in said
    assert "tried again with the next checkpoint" in said
    assert left_by(tmp_path) == left_by(whole)


# What is reported


def steps_in(path: Path) -> list[int]:
    return [int(json.loads(line)["global_step"]) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("often", [ALWAYS, "checkpoint_seconds=null"])
def test_the_metric_file_keeps_its_lines_and_repeats_no_step(
    often: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run begins anew, for it was cut off before its first checkpoint."""
    path = tmp_path / "metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    cut(8 * 2 + 3, tmp_path / "out", *SHORT, often)
    before = path.read_text()
    assert steps_in(path) == [1, 2]
    train(tmp_path / "out", *SHORT)
    assert path.read_text().startswith(before)
    assert steps_in(path) == [1, 2, 3, 4, 5]
    train(tmp_path / "out", *SHORT)  # finished; said again
    assert steps_in(path) == [1, 2, 3, 4, 5]


def test_on_another_machine_the_steps_after_the_checkpoint_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "first"))
    heard: list[int] = []
    cut(8 * 2 + 3, tmp_path / "out", *SHORT, ALWAYS)
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "second"))
    train(tmp_path / "out", *SHORT, listeners=(lambda step, _: heard.append(step),))
    assert steps_in(tmp_path / "second") == [3, 4, 5]
    assert heard == [3, 4]


def test_lines_of_others_are_not_this_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics"
    other = json.dumps({"trial": "8", "global_step": "99", "validation_accuracy": "0.1"})
    path.write_text(f'{other}\nnot json\n[1]\n{{"trial": "0", "global_step": []}}\n' + "[" * 10**5 + "\n")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    cut(3, tmp_path / "out", *SHORT, ALWAYS)  # begun; nothing reported
    train(tmp_path / "out", *SHORT)
    assert steps_in(path) == [1, 2, 3, 4, 5]


# Signals, which wait for a place where nothing is half done


def test_a_signal_leaves_a_checkpoint_of_the_very_step(tmp_path: Path, whole: Path) -> None:
    from alphard.models import Classifier

    really, count = Classifier.training_step, []

    def signalled(*args: Any) -> Any:
        count.append(1)
        if len(count) == 13:
            signal.raise_signal(signal.SIGTERM)
        return really(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", signalled)
        with pytest.raises(Interrupted, match="SIGTERM"):
            train(tmp_path, *SHORT)  # its checkpoints are 5 s apart
    assert json.loads((tmp_path / "metrics.json").read_text())["stopped_by"] == "SIGTERM"
    (last,) = checkpoints_in(tmp_path)
    assert last.name == "step-000000000013.ckpt"
    train(tmp_path, *SHORT)
    assert resumptions(tmp_path) == [f"resumed at epoch 2, step 13, from {last}"]
    assert left_by(tmp_path) == left_by(whole)
    assert json.loads((tmp_path / "metrics.json").read_text())["stopped_by"] is None


def test_a_signal_in_a_step_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    from alphard.models import Classifier

    really, count = Classifier.training_step, []

    def slow(*args: Any) -> Any:
        count.append(1)
        if len(count) == 13:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(60)
        return really(*args)

    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", slow)
        with pytest.raises(Interrupted, match="SIGTERM"):
            train(tmp_path, *SHORT)
    assert time.monotonic() - began < 30
    assert json.loads((tmp_path / "metrics.json").read_text())["best_epoch"] == 1


def test_states_of_chance_are_kept_whole() -> None:
    import random

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    before = checkpoint.loads(checkpoint.dumps(going_on._random_state(trainer)))

    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.normal()), float(torch.randn(())), random.random()]

    drawn = [draw(), draw()]
    going_on._set_random_state(trainer, before)
    assert [draw(), draw()] == drawn
