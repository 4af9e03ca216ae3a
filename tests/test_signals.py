"""Ctrl-C and SIGTERM: seconds, the best weights so far, a status of their own.  Real processes, real signals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, environment
from tests.spent import so_far, waited_for

LONG = ("epochs=100000", "patience=100000", "data=synthetic", "data.rows=3000", "output_dir=out")


def stop_after_validation(
    folder: Path, number: int, *arguments: str, validations: int = 2
) -> tuple[int, str, str, float]:
    """Start train.py, signal it after some validations; its status, output, errors, and seconds from the signal."""
    command = [sys.executable, str(ROOT / "train.py"), *LONG, *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    said = []
    while validations:
        said.append(process.stdout.readline())
        assert said[-1], "ended by itself"
        validations -= said[-1].startswith("validation_accuracy")
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
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


@pytest.mark.more
def test_both_processes_of_ddp_end(tmp_path: Path) -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=cpu")
    status, _, _, seconds = stop_after_validation(tmp_path, signal.SIGTERM, *ddp)
    assert status == 143
    assert seconds < 30
    assert json.loads((tmp_path / "out/metrics.json").read_text())["stopped_by"] == "SIGTERM"
    time.sleep(1)
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout
