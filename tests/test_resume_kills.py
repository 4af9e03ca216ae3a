"""Runs killed by `kill -9` at random moments end bitwise as those that were not."""

import json
import os
import random
import shutil
from functools import cache, partial
from pathlib import Path

import pytest

from tests.conftest import run_train
from tests.killing import has_saved, is_written, left_by, training, wait_for

RUNS = 30
SGD = ("optimizer=sgd", "learning_rate=0.05", "optimizer.momentum=0.9")
CONFIGS = (
    ("data=breast_cancer", "model.net.dropout=0.3", "epochs=12"),
    ("data=breast_cancer", "model.net.normalisation=batch", "scheduler=plateau", "scheduler.patience=0", *SGD, "epochs=12"),
    ("data=breast_cancer", "scheduler=cosine", "batch_size=17", "epochs=6"),
    ("data=breast_cancer", "learning_rate=0.03", "patience=2", "batch_size=30", "epochs=40"),
    ("data=breast_cancer", "model.net.normalisation=batch", "restore_best=false", "+trainer.val_check_interval=0.4", "epochs=8"),
    ("data=breast_cancer", "+trainer.accumulate_grad_batches=3", *SGD, "scheduler=cosine", "epochs=12"),
    ("data=synthetic", "data.rows=600", "model.net.residual=true", "batch_size=null", "epochs=60"),
    ("data=breast_cancer", "+trainer.max_steps=70", "scheduler=plateau", "scheduler.patience=0", "epochs=12"),
    ("data=breast_cancer", "+trainer.check_val_every_n_epoch=3", "model.net.dropout=0.5", "seed=3", "epochs=11"),
    ("data=breast_cancer", "+callbacks.average={_target_: pytorch_lightning.callbacks.EMAWeightAveraging, decay: 0.9}", "epochs=9"),
)  # fmt: skip
# How each third run is killed: twice, anywhere; while a checkpoint is written, one after each step; between two that
# are apart.
OFTEN = ("checkpoint_seconds=0", "checkpoint_seconds=0", "checkpoint_seconds=0.02")


@pytest.mark.more
@pytest.mark.timeout(1200)
def test_thirty_runs_killed_at_random_moments_end_as_those_that_were_not(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("ALPHARD_TEST_SEED", "0")))
    whole, took, resumed, torn = tmp_path / "whole", {}, 0, 0

    @cache
    def never_killed(number: int) -> Path:
        done = run_train(whole, *CONFIGS[number], "threads=1", f"output_dir=run{number}", "checkpoint_seconds=0.05")
        assert done.status == 0, done.err
        left = whole / f"run{number}"
        took[number] = (left / "metrics.json").stat().st_mtime - (left / "config.yaml").stat().st_mtime  # of training
        return left

    whole.mkdir()
    for run in range(RUNS):
        number = run % len(CONFIGS)
        expected, names = left_by(never_killed(number)), {path.name for path in never_killed(number).iterdir()}
        out = tmp_path / "killed"
        line = (*CONFIGS[number], "threads=1", f"output_dir={out}", OFTEN[run % len(OFTEN)])
        for _ in range(1 + (run % 3 == 0)):
            with training(tmp_path, *line) as process:
                begun = (out / "config.yaml").exists if run % 3 == 0 else partial(has_saved, out)
                if wait_for(begun, process):
                    process.join(chance.uniform(0, (1.0, 0.3, 0.2)[run % 3] * took[number]))
                if run % 3 == 1:
                    wait_for(partial(is_written, out), process)
                process.kill()
            torn += is_written(out)
        done = run_train(tmp_path, *line)
        assert done.status == 0, done.err
        assert left_by(out) == expected, (run, line)
        assert {path.name for path in out.iterdir()} == names, (run, line)
        assert json.loads((out / "metrics.json").read_text())["stopped_by"] is None
        resumed += (out / "training.log").read_text().count("resumed at epoch")
        shutil.rmtree(out)
    print(f"{resumed} resumptions, {torn} writes cut short")
    assert resumed > RUNS / 2
    assert torn
