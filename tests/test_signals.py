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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
def test_both_processes_of_ddp_end(tmp_path: Path) -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=cpu")
    status, _, _, seconds = stop_after_validation(tmp_path, signal.SIGTERM, *ddp)
    assert status == 143
    assert seconds < 30
    assert json.loads((tmp_path / "out/metrics.json").read_text())["stopped_by"] == "SIGTERM"
    time.sleep(1)
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout
