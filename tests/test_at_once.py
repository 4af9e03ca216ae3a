"""Two commands at once: of one output folder the second is refused, of one study they share the trials; one is killed."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import run_train
from tests.killing import left_by, resumptions, training, wait_for

LONG = ("threads=1", "epochs=15", "patience=0", "batch_size=16", "checkpoint_seconds=0.1", "output_dir=out")


def contents(folder: Path) -> dict[str, bytes]:
    """What a second command may not touch: all that does not grow by itself."""
    return {name: (folder / name).read_bytes() for name in ("config.yaml", ".lock")}


def test_the_second_command_on_a_folder_is_refused_and_let_in_when_the_first_is_killed(tmp_path: Path) -> None:
    with training(tmp_path, *LONG) as process:
        assert wait_for(lambda: any((tmp_path / "out").glob("checkpoints/step-*.ckpt")), process)
        os.kill(process.pid, signal.SIGSTOP)  # so that nothing but a second command can change the folder
        before = contents(tmp_path / "out")
        for more in ((), ("overwrite=true",), ("overwrite=true", "seed=1"), ("seed=1",)):
            second = run_train(tmp_path, *LONG, *more)
            assert second.status == 2
            assert second.err.count("error: ") == 1
            if more == ("seed=1",):
                assert "holds another config's run (seed: 0 there, 1 here)" in second.err
            else:
                said = f"output_dir: {tmp_path}/out: another run writes here now (pid {process.pid}); wait until it has ended"
                assert said in second.err
            assert contents(tmp_path / "out") == before
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
    third = run_train(tmp_path, *LONG)
    assert third.status == 0, third.err
    assert len(resumptions(tmp_path / "out")) == 1
    assert not (tmp_path / "out/.lock").exists()
    alone = run_train(tmp_path, *LONG[:-1], "output_dir=alone")
    assert alone.status == 0
    assert left_by(tmp_path / "out") == left_by(tmp_path / "alone")


@pytest.mark.more
def test_two_searches_of_one_folder_share_its_trials_and_one_is_killed(tmp_path: Path) -> None:
    line = ("search=mlp", "search.trials=24", "search.parallel=1", "search.algorithm=random", "search.initial=[]")
    line += ("search.pruner.kind=none", "search.max_failures=0", "data.fraction=0.2", "epochs=3", "threads=1")
    trials, table = tmp_path / "studies/mlp/trials", tmp_path / "studies/mlp/trials.csv"
    with training(tmp_path, *line) as one, training(tmp_path, *line) as two:
        assert wait_for(lambda: len([*trials.glob("*/metrics.json")]) > 4, one)
        one.kill()
        one.join(30)
        two.join(600)
        assert two.exitcode == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert sorted(int(row["trial"]) for row in rows) == list(range(24))
    assert {row["state"] for row in rows} == {"complete"}
    assert len({row["learning_rate"] for row in rows}) == 24
    for row in rows:
        metrics = json.loads((trials / row["trial"] / "metrics.json").read_text())
        assert metrics["final_val_accuracy"] == float(row["validation_accuracy"])
    again = run_train(tmp_path, *line)
    assert again.status == 0
    assert "\n[" not in again.out
    assert not [*tmp_path.glob("studies/mlp/.owner-*")]
