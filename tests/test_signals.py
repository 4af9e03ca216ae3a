"""Ctrl-C and SIGTERM: seconds, the best weights so far, a status of their own.  Real processes, real signals."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, environment
from tests.readme import copy_of_the_project
from tests.spent import so_far, waited_for

LONG = ("epochs=100000", "patience=100000", "data=synthetic", "data.rows=3000", "output_dir=out")
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "threads=1")
Started = subprocess.Popen[str]


def stop_after_validation(
    folder: Path,
    stop: int | Callable[[Started], None],
    *arguments: str,
    validations: int = 2,
    script: Path = ROOT / "train.py",
    **more: str,
) -> tuple[int, str, str, float]:
    """Start train.py and stop it, by a signal or a call, after some validations; its status, output and errors, and
    the seconds from then on.
    """
    with subprocess.Popen(
        [sys.executable, str(script), *LONG, *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            said = []
            while validations:
                said.append(process.stdout.readline())
                assert said[-1], "ended by itself"
                validations -= said[-1].startswith("validation_accuracy")
            began = time.monotonic()
            stop(process) if callable(stop) else process.send_signal(stop)
            out, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, "".join(said) + out, err, time.monotonic() - began


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.more), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_the_run_with_the_best_weights_so_far(number: int, status: int, tmp_path: Path) -> None:
    returned, out, err, seconds = stop_after_validation(tmp_path, number)
    assert returned == status, err
    assert seconds < 20
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["stopped_by"] == signal.Signals(number).name
    assert metrics["final_val_loss"] == pytest.approx(metrics["best_val_loss"], abs=1e-6)
    assert torch.load(tmp_path / "out/model.pt", weights_only=True)
    assert out.splitlines()[-1] == f"validation_accuracy: {metrics['final_val_accuracy']:.6f}"
    assert "Traceback" not in err


@pytest.mark.more
def test_a_stopped_run_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    stop_after_validation(tmp_path, signal.SIGTERM)
    status, out, _, _ = stop_after_validation(tmp_path, signal.SIGTERM)
    assert status == 143
    assert "finished run" not in out


@pytest.mark.more
def test_in_the_middle_of_a_long_epoch_it_ends_within_ten_seconds_and_the_same_line_goes_on(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "train.py"), *LONG, "data.rows=200000", "batch_size=1", "threads=1"]
    said = []
    for _ in range(2):
        log = (tmp_path / "log").open("w+")
        with log, subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=log, stderr=log) as process:
            began = (tmp_path / "out/training.log").stat().st_size if said else -1
            while (
                not (tmp_path / "out/training.log").exists() or (tmp_path / "out/training.log").stat().st_size == began
            ):
                time.sleep(0.1)
            time.sleep(1)
            before = so_far(process.pid)
            process.send_signal(signal.SIGTERM)
            assert waited_for(process)[0] - before < 10
            assert process.returncode == 143
            log.seek(0)
            said.append(log.read())
        assert json.loads((tmp_path / "out/metrics.json").read_text())["stopped_by"] == "SIGTERM"
        assert torch.load(tmp_path / "out/model.pt", weights_only=True)
    last = [text.partition("the same line goes on from ")[2].partition("\n")[0] for text in said]
    assert f"resumed at epoch 1, step {int(last[0][-17:-5])}, from {last[0]}\n" in said[1]
    assert int(last[1][-17:-5]) > int(last[0][-17:-5]) > 0


SLOW = """
import time

import torch

from alphard.models import MLP


class Slow(MLP):
    slept = False

    def forward(self, x):
        if not self.slept and not self.training and not torch.distributed.is_initialized():
            self.slept = True
            time.sleep(6)
        return super().forward(x)
"""


@pytest.mark.more
@pytest.mark.parametrize(("name", "to_all", "status"), [("SIGTERM", False, 143), ("SIGINT", True, 130)])
def test_both_processes_of_ddp_end_and_the_first_takes_its_time(
    name: str, to_all: bool, status: int, tmp_path: Path
) -> None:
    """Lightning looks every 5 s whether a further process ended badly, and then kills the first."""
    copy_of_the_project(tmp_path)
    (tmp_path / "src/mine.py").write_text(SLOW)
    python_path = ":".join(filter(None, [str(tmp_path / "src"), environment().get("PYTHONPATH")]))

    def stop(process: Started) -> None:
        os.killpg(process.pid, signal.Signals[name]) if to_all else process.send_signal(signal.Signals[name])

    line = (*DDP, "model.net._target_=mine.Slow")
    script = tmp_path / "train.py"
    returned, out, err, seconds = stop_after_validation(tmp_path, stop, *line, script=script, PYTHONPATH=python_path)
    assert (returned, err) == (status, f"stopped by {name}\n")
    assert 6 < seconds < 40
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["stopped_by"] == name
    assert out.splitlines()[-1] == f"validation_accuracy: {metrics['final_val_accuracy']:.6f}"
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout


@pytest.mark.more
def test_a_lost_process_of_ddp_is_named_by_the_first(tmp_path: Path) -> None:
    def kill_the_second(process: Started) -> None:
        found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        (second,) = found.stdout.split()
        os.kill(int(second), signal.SIGKILL)

    status, _, err, _ = stop_after_validation(tmp_path, kill_the_second, *DDP)
    assert status == 1, err
    assert err.startswith("error: trainer.devices: 2: another of this run's processes is gone; ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out/metrics.json").exists()
