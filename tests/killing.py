"""Runs that are killed: at a step in this process, or by `kill -9` as commands of their own."""

import contextlib
import csv
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphard.models import Classifier
from tests.conftest import ROOT, WARM, environment
from tests.in_process import run_here


class PowerCut(BaseException):
    """The end of a process, as far as one process can play it."""


def cut_at(step: int, folder: Path, *overrides: str, **given: Any) -> None:
    """Train in this process until the step `step`, from 1, counted from where this process began, and stop dead."""
    really, count = Classifier.training_step, 0

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == step:
            raise PowerCut
        return really(*args)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PowerCut):
        patch.setattr(Classifier, "training_step", counted)
        run_here(folder, *overrides, **given)
        raise AssertionError("the run ended by itself")


def left_by(folder: Path) -> tuple[bytes, list[dict[str, str]]]:
    """What has to be the same: the weights' file, and the history but for its seconds."""
    rows = list(csv.DictReader((folder / "eval_history.csv").read_text().splitlines()))
    return (folder / "model.pt").read_bytes(), [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def resumptions(folder: Path) -> list[str]:
    """The log's lines that tell of one."""
    return [line for line in (folder / "training.log").read_text().splitlines() if line.startswith("resumed at")]


@contextlib.contextmanager
def training(folder: Path, *arguments: str, **more: str) -> Iterator[Any]:
    """`python train.py ARGUMENTS` as a process that runs."""
    from tests.warm import run_forked

    with tempfile.TemporaryDirectory() as said:
        call = (str(ROOT / "train.py"), arguments, str(folder), environment(**more), said)
        process = WARM.Process(target=run_forked, args=call)
        process.start()
        try:
            yield process
        finally:
            process.kill()
            process.join(60)
            process.close()


def is_written(folder: Path) -> bool:
    """Whether a checkpoint is being written just now."""
    with contextlib.suppress(OSError):
        return any(name.startswith(".step-") for name in os.listdir(folder / "checkpoints"))
    return False


def has_saved(folder: Path) -> bool:
    """Whether a whole checkpoint lies in a run's folder."""
    with contextlib.suppress(FileNotFoundError):  # a folder that is made and removed while we look
        return any((folder / "checkpoints").glob("step-*.ckpt"))
    return False


def wait_for(what: Any, process: Any, seconds: float = 60) -> bool:
    """Whether it came true before the process ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        if not process.is_alive():
            return False
        time.sleep(0.0002)
    raise AssertionError("nothing happens")
