"""A search that is killed at any moment ends with exactly its trials, each with the values that it first had."""

import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

TRIALS, KILLS, EPOCHS = 80, 20, 10
LINE = ("search=mlp", f"search.trials={TRIALS}", "search.parallel=2", "search.algorithm=random", f"epochs={EPOCHS}")
LINE += ("search.pruner.kind=none", "search.max_failures=0", "threads=1")


def start(folder: Path, line: tuple[str, ...] = LINE) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *line]
    out = (folder / "out").open("a")
    with out:
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=out, stderr=out, text=True)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def chosen_in(journal: Path) -> dict[tuple[int, str], set[float]]:
    """Each value that was ever written for a trial's dimension."""
    found: dict[tuple[int, str], set[float]] = {}
    for line in journal.read_text().splitlines():
        log = json.loads(line)
        if "param_name" in log:
            found.setdefault((log["trial_id"], log["param_name"]), set()).add(log["param_value_internal"])
    return found


def steps_in(journal: Path) -> int:
    """How many values have been reported."""
    return len(re.findall(r'"step":', journal.read_text())) if journal.exists() else 0


def table_of(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "studies/mlp/trials.csv").read_text().splitlines()))
    return sorted(({k: v for k, v in row.items() if k != "seconds"} for row in rows), key=lambda row: int(row["trial"]))


def killed_again_and_again(
    folder: Path,
    line: tuple[str, ...],
    most: int,
    epochs: int,
    may_die_alone: Callable[[], bool] = lambda: True,
) -> tuple[subprocess.Popen[str], int]:
    """Begin a search and kill it, a worker or all at `most` random moments; the last process, and how many kills.

    epochs: so many at most are reported from its beginning, or from the kill before, to most kills; every fifth comes
            in the first seconds, whether it trains yet or not.
    """
    chance = random.Random(int(os.environ.get("ALPHARD_TEST_SEED", "0")))
    kills, process, journal = 0, start(folder, line), folder / "studies/mlp/journal.log"
    while kills < most:
        if kills % 5 == 4:
            until, told = time.monotonic() + chance.uniform(0, 4), 0
        else:
            until, told = 0.0, steps_in(journal) + chance.randint(1, epochs)
        while process.poll() is None and (time.monotonic() < until or steps_in(journal) < told):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.05))  # of an epoch
        if process.poll() is not None:
            break
        workers = children(process.pid)
        victims = chance.choice([[process.pid], workers[:1], [*workers, process.pid], [process.pid, *workers]])
        if victims == workers[:1] and not may_die_alone():
            victims = [process.pid]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):  # a worker whose parent is gone ends by itself
                os.kill(pid, signal.SIGKILL)
        kills += 1
        if process.pid in victims:
            process.wait()
            until = time.monotonic() + 60  # its watch waits while torch is imported
            while not all(map(gone, workers)) and time.monotonic() < until:
                time.sleep(0.01)
            assert all(map(gone, workers)), "a worker outlives its parent"
            process = start(folder, line)
    return process, kills


@pytest.mark.more(minutes=5)
@pytest.mark.timeout(1200)
def test_killed_at_twenty_moments_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert start(whole).wait(600) == 0, (whole / "out").read_text()
    spared = 0

    def another() -> bool:
        """Whether a worker may die alone: a trial whose own process dies twice has failed, so not the same one again."""
        nonlocal spared
        ended = (killed / "out").read_text().count("\n[")
        before, spared = spared, ended if ended > spared + 4 else spared
        return spared > before

    process, kills = killed_again_and_again(killed, LINE, KILLS, 6 * EPOCHS, another)
    status = process.wait(600)
    said = (killed / "out").read_text()
    assert status == 0, said
    assert kills == KILLS, f"the search ended after {kills} kills"
    assert table_of(killed) == table_of(whole)
    assert [row["state"] for row in table_of(killed)] == ["complete"] * TRIALS
    assert all(len(values) == 1 for values in chosen_in(killed / "studies/mlp/journal.log").values())
    for row in table_of(killed):
        metrics = json.loads((killed / "studies/mlp/trials" / row["trial"] / "metrics.json").read_text())
        assert metrics["final_val_accuracy"] == float(row["validation_accuracy"])
        one, other = ((f / "studies/mlp/trials" / row["trial"] / "model.pt").read_bytes() for f in (whole, killed))
        assert one == other


@pytest.mark.more
def test_a_trial_that_is_killed_goes_on_and_is_pruned_as_it_would_have_been(tmp_path: Path) -> None:
    line = ("search=mlp", "search.trials=8", "search.parallel=1", "search.algorithm=tpe", "epochs=30", "threads=1")
    line += ("search.pruner.kind=median", "search.pruner.grace_epochs=2", "checkpoint_seconds=0.05", "batch_size=16")
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
        study, kills = folder / "studies/mlp", 0
        process = start(folder, line)
        while folder.name == "killed" and kills < 4 and process.poll() is None:
            time.sleep(0.3)  # of some trial's time
            there = list(study.glob(f"trials/{2 * kills}/checkpoints/step-*"))
            if there:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                process = start(folder, line)
        assert process.wait(600) == 0, (folder / "out").read_text()
    whole, killed = folders
    assert table_of(killed) == table_of(whole)
    assert {row["state"] for row in table_of(killed)} == {"complete", "pruned"}
    logs = [(killed / f"studies/mlp/trials/{n}/training.log").read_text() for n in range(8)]
    assert sum("resumed at epoch" in log for log in logs) > 1
    assert not list(killed.glob("studies/mlp/trials/*/checkpoints"))
    for path in whole.glob("studies/mlp/trials/*/model.pt"):
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()
