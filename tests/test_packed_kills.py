"""A search in packs that is killed at any moment ends, bitwise, as one that was not."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.test_search_kills import children, chosen_in, gone, killed_again_and_again, start, steps_in, table_of

TRIALS, KILLS, EPOCHS = 40, 5, 40
LINE = ("search=mlp", "search.engine=packed", f"search.trials={TRIALS}", "search.max_failures=0", "threads=1")
LINE += ("search.algorithm=random", "search.initial=[]", "search.pack.keep=8", "search.parallel=2", f"epochs={EPOCHS}")
LINE += ("search.pruner.kind=none", "checkpoint_seconds=0.1", "batch_size=32", "model.net.hidden=[32],[16]")


def folders_of(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (folder / "studies/mlp/trials").glob("*/model.pt")}


@pytest.mark.more(minutes=3)
@pytest.mark.timeout(1200)
def test_killed_at_any_moments_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert start(whole, LINE).wait(600) == 0, (whole / "out").read_text()
    process, kills = killed_again_and_again(killed, LINE, KILLS, TRIALS * EPOCHS // 4)
    assert process.wait(600) == 0, (killed / "out").read_text()
    assert kills > 3, f"the search ended after {kills} kills"
    assert table_of(killed) == table_of(whole)
    assert [row["state"] for row in table_of(killed)] == ["complete"] * TRIALS
    assert all(len(values) == 1 for values in chosen_in(killed / "studies/mlp/journal.log").values())
    assert folders_of(killed) == folders_of(whole)
    assert len(folders_of(whole)) == 8
    assert not (killed / "studies/mlp/packs").exists()


@pytest.mark.more
def test_a_pack_that_is_killed_goes_on_from_where_it_was_and_is_pruned_as_it_would_have_been(tmp_path: Path) -> None:
    line = (*LINE, "search.parallel=1", "search.trials=24", "search.pruner.kind=asha", "search.pruner.grace_epochs=10")
    # After each epoch it saves, however slow the disk is, and it reports much more than the three kills wait for.
    line += ("epochs=int(interval(80,160))", "checkpoint_seconds=0")
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
        study, kills = folder / "studies/mlp", 0
        process = start(folder, line)
        seen = 0
        while folder.name == "killed" and kills < 3 and process.poll() is None:
            time.sleep(0.05)
            there = list(study.glob("packs/*.ckpt"))
            told = steps_in(study / "journal.log")
            if there and told > seen + 60:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills, seen = kills + 1, told
                process = start(folder, line)
        assert process.wait(600) == 0, (folder / "out").read_text()
        assert kills == 3 * (folder.name == "killed")
    whole, killed = folders
    assert table_of(killed) == table_of(whole)
    assert {row["state"] for row in table_of(killed)} == {"complete", "pruned"}
    assert folders_of(killed) == folders_of(whole)
    # It went on: where each kill loses everything, a trial reports its first epoch four times.
    first = [(folder / "studies/mlp/journal.log").read_text().count('"step":1,') for folder in folders]
    assert first[0] == 24
    assert first[1] < 2 * 24


@pytest.mark.more
def test_ctrl_c_ends_at_once_and_the_same_line_goes_on(tmp_path: Path) -> None:
    line = (*LINE, "search.trials=30", "search.parallel=1")
    process = start(tmp_path, line)
    until = time.monotonic() + 60
    while steps_in(tmp_path / "studies/mlp/journal.log") < 60 and time.monotonic() < until:
        time.sleep(0.05)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "of 30 trials are finished; the same line goes on:" in (tmp_path / "out").read_text()
    assert all(map(gone, workers))
    states = [json.loads(text).get("state") for text in (tmp_path / "studies/mlp/journal.log").read_text().splitlines()]
    assert 4 in states  # of Optuna, WAITING: what ran waits again
    assert start(tmp_path, line).wait(600) == 0
    assert [row["state"] for row in table_of(tmp_path)] == ["complete"] * 30
