"""Many trials: four workers that are killed at random lose none of 500, and a study of 10,000 is shown and gone on with."""

import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from alphard.search import command, optuna_seam
from alphard.search.journal import Journal
from alphard.search.plan import Plan, checked
from alphard.search.points import value_at
from tests.conftest import ROOT, environment
from tests.spent import ROOM, waited_for
from tests.test_search_kills import children, start

TRIALS, WORKERS, KILLS, EPOCHS = 500, 4, 12, 2
LINE = ("search=mlp", f"search.trials={TRIALS}", f"search.parallel={WORKERS}", "search.algorithm=random")
LINE += ("data=synthetic", "data.rows=400", f"epochs={EPOCHS}", "search.pruner.kind=none", "search.max_failures=0")
LINE += ("threads=1", "search.initial=[]")
LEFT = {"config.yaml", "eval_history.csv", "metrics.json", "model.pt", "training.log"}
AGAIN = 12  # trials that end between two kills, and with them the one that is tried again: it may not die twice
MEGABYTE = 1 << 20


def memory(pid: int) -> int:
    """Resident bytes of a process, its own alone; 0 of one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def endings(journal: Path) -> Counter[int]:
    """How often each trial was finished, by its id, as Optuna's own log has it."""
    finished = {int(state) for state in TrialState if state.is_finished()}
    logs = Journal(journal).read_logs(0)
    return Counter(log["trial_id"] for log in logs if log.get("state") in finished)


@pytest.mark.more
@pytest.mark.timeout(1200)
def test_five_hundred_trials_whose_workers_are_killed_are_each_trained_once(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("ALPHARD_TEST_SEED", "0")))
    process, out = start(tmp_path, LINE), tmp_path / "out"
    kills, spared, early, most = 0, 20, 0, 0
    until = time.monotonic() + 1000
    while process.poll() is None and time.monotonic() < until:
        ended = out.read_text().count("\n[")
        most = max(most, memory(process.pid))
        early = early or (ended >= spared and memory(process.pid))
        if kills < KILLS and ended >= spared and len(workers := children(process.pid)) == WORKERS:
            os.kill(chance.choice(workers), signal.SIGKILL)
            kills, spared = kills + 1, ended + chance.randint(AGAIN, TRIALS // KILLS - 10)
        time.sleep(0.05)
    said = out.read_text()
    assert process.wait(1) == 0, said
    assert kills == KILLS
    assert said.count("it is tried once more") >= 1
    print(f"{TRIALS} trials, {kills} kills: the parent grew by {(most - early) / MEGABYTE:.1f} MB", said[-300:])
    assert most - early < 50 * MEGABYTE
    study = tmp_path / "studies/mlp"
    trials = optuna.load_study(
        study_name="mlp", storage=optuna.storages.JournalStorage(Journal(study / "journal.log"))
    ).get_trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert endings(study / "journal.log") == {trial._trial_id: 1 for trial in trials}
    assert len({trial.params["learning_rate"] for trial in trials}) == TRIALS
    assert sorted(int(path.name) for path in (study / "trials").iterdir()) == list(range(TRIALS))
    for trial in trials:
        home = study / "trials" / str(trial.number)
        assert {path.name for path in home.iterdir()} == LEFT
        metrics = json.loads((home / "metrics.json").read_text())
        assert metrics["final_val_accuracy"] == trial.value
        assert len([*csv.DictReader((home / "eval_history.csv").read_text().splitlines())]) == metrics["stopped_epoch"]
        weights = torch.load(home / "model.pt", weights_only=True)
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert not list(study.glob(".owner-*"))


class Held(Journal):
    """A journal whose lines are written at the end: the same lines, without waiting 200,000 times for the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.logs = [*super().read_logs(0)]
        self.there = len(self.logs)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += json.loads(json.dumps(logs))

    def write(self) -> None:
        Journal(self.path).append_logs(self.logs[self.there :])


def searched(folder: Path, count: int) -> Plan:
    """A study as a search of `count` trials of ten epochs leaves it, but for the trials' folders; some more wait."""
    line = ["search=mlp", f"search.trials={count + 50}", f"output_dir={folder}", "search.parallel=4"]
    this = checked(ROOT / "configs", line)
    study = command._open(this)
    command._describe(this, line)
    study.close()
    journal, chance = Held(folder / "journal.log"), np.random.default_rng(0)
    storage = optuna.storages.JournalStorage(journal)
    known = optuna.load_study(study_name=folder.name, storage=storage)
    for trial in known.get_trials(deepcopy=False)[:count]:
        storage.set_trial_user_attr(trial._trial_id, "owner", study.owner.name)
        storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        chosen: dict[str, Any] = {}
        for dimension in this.space.active(chosen):
            chosen[dimension.key] = value_at(dimension, float(chance.random()))
            given = optuna_seam.distribution(dimension)
            internal = given.to_internal_repr(chosen[dimension.key])
            storage.set_trial_param(trial._trial_id, dimension.key, internal, given)
        value, state = float(chance.beta(8, 2)), [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
        for epoch in range(1, 11):
            storage.set_trial_intermediate_value(trial._trial_id, epoch, value * (1 - 0.5**epoch))
        for name, said in {"stopped_epoch": 10, "seconds": 0.1, "best_epoch": 10, "val_rows": 360}.items():
            storage.set_trial_user_attr(trial._trial_id, name, said)
        storage.set_trial_state_values(trial._trial_id, state[trial.number % 3], [value])
    journal.write()
    return this


@pytest.mark.more
def test_a_study_of_many_trials_suggests_the_next_and_is_shown_in_seconds(tmp_path: Path) -> None:
    """In a processor's seconds, whatever else the machine does."""
    folder, count = tmp_path / "many", 10_000
    this = searched(folder, count)
    began = time.process_time()
    study = command._open(this)
    print(f"{count} trials: opened in {time.process_time() - began:.2f} s")
    try:
        assert study.finished() == count
        for algorithm in ("random", "tpe"):
            study.settings = replace(this.settings, algorithm=algorithm)
            took = []
            for _ in range(4):
                began = time.process_time()
                trial = study.take()
                took.append(time.process_time() - began)
                assert trial is not None
                study.tell(trial, TrialState.COMPLETE, 0.5, {"val_rows": 360})
            print(f"{algorithm}: {1000 * statistics.median(took):.0f} ms for the next")
            assert statistics.median(took) < ROOM * 1  # the first one imports, too
    finally:
        study.close()
    words = [sys.executable, "-c", "import sys; from alphard.cli import main; sys.exit(main())", "results", str(folder)]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(words, env=environment(), stdout=out, stderr=out)
        seconds, used = waited_for(process)
    said = (tmp_path / "out").read_text()
    assert process.returncode == 0, said
    print(f"alphard results: {seconds:.1f} s, {used.ru_maxrss >> 10} MB")
    assert seconds < ROOM * 10
    assert f"trials: {count + 8} " in said
    assert f"… and {count + 8 - 200} more: {folder / 'trials.csv'}" in said
    assert (folder / "trials.csv").read_text().count("\n") == count + 8 + 1
    assert (folder / "report.html").stat().st_size < 20 * MEGABYTE
