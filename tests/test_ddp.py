"""Two processes on the CPU train as one job, and write once."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment, run_train
from tests.killing import left_by, resumptions

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "epochs=8", "threads=1", "output_dir=out")


@pytest.mark.more
def test_two_processes_reach_the_same_accuracy_and_write_once(tmp_path: Path) -> None:
    done = run_train(tmp_path, *DDP, cold=True, CLOUD_ML_HP_METRIC_FILE=str(tmp_path / "metrics"))
    assert done.status == 0, done.err
    run_train(tmp_path, "epochs=8", "threads=1", "output_dir=alone", "batch_size=128")  # two times 64 rows a step
    together, single = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("out", "alone"))
    assert abs(together["final_val_accuracy"] - single["final_val_accuracy"]) < 0.03
    steps = [json.loads(line)["global_step"] for line in (tmp_path / "metrics").read_text().splitlines()]
    assert steps == [str(epoch) for epoch in range(1, 10)]
    assert done.out.count("artifacts: ") == 1
    assert len(list(csv.DictReader((tmp_path / "out/eval_history.csv").read_text().splitlines()))) == 8


@pytest.mark.more
def test_a_multirun_of_ddp_jobs(tmp_path: Path) -> None:
    done = run_train(tmp_path, "-m", *DDP, "epochs=1", "seed=0,1", cold=True)
    assert done.status == 0, done.err
    assert [json.loads((tmp_path / f"out/trials/{n}/metrics.json").read_text())["seed"] for n in (0, 1)] == [0, 1]


@pytest.mark.more
def test_two_processes_that_are_killed_go_on_together(tmp_path: Path) -> None:
    """Between epochs, each with its own random state; the folder is the first one's."""
    line = [word for word in DDP if word != "output_dir=out"]
    assert run_train(tmp_path, *line, "output_dir=whole", cold=True).status == 0
    command = [sys.executable, str(ROOT / "train.py"), *line, "output_dir=out", "checkpoint_seconds=0"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), start_new_session=True)
    until = time.monotonic() + 120
    while not [*(tmp_path / "out/checkpoints").glob("step-*.ckpt")] and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_train(tmp_path, *line, "output_dir=out", "checkpoint_seconds=0", cold=True)
    assert done.status == 0, done.err
    assert len(resumptions(tmp_path / "out")) == 1
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")
    assert not (tmp_path / "out/checkpoints").exists()
