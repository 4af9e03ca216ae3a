"""Hydra's own multirun: folders of their own, a table at the end, a bad value found before the first job trains."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Train, environment

SHORT = ("-m", "epochs=1", "threads=1")


def table_of(out: str) -> list[list[str]]:
    """The cells of the last table that was printed."""
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in out.splitlines() if line.startswith("│")]
    return rows[-len([row for row in rows if row[0].isdigit()]) :]


@pytest.mark.hydra
def test_every_job_has_its_folder_and_its_row(train: Train) -> None:
    done = train(*SHORT, "learning_rate=1e-3,1e-2", "seed=0,1")
    assert done.status == 0, done.err
    folders = sorted(done.folder.glob("multirun/*/*/trials/*"))
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    found = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert [(m["learning_rate"], m["seed"]) for m in found] == [(0.001, 0), (0.001, 1), (0.01, 0), (0.01, 1)]
    rows = [
        [str(n), str(m["learning_rate"]), str(m["seed"]), f"{m['final_val_accuracy']:.6f}"] for n, m in enumerate(found)
    ]
    assert [row[:3] + row[4:5] for row in table_of(done.out)] == rows


@pytest.mark.parametrize("how", ["output_dir", "AIP_MODEL_DIR"])
def test_a_named_folder_is_the_parent(how: str, train: Train, tmp_path: Path) -> None:
    named = f"output_dir={tmp_path}/mine"
    done = (
        train(*SHORT, "seed=0,1", named)
        if how == "output_dir"
        else train(*SHORT, "seed=0,1", AIP_MODEL_DIR=f"{tmp_path}/mine")
    )
    assert done.status == 0, done.err
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("model.pt")) == [
        "mine/trials/0/model.pt",
        "mine/trials/1/model.pt",
    ]


@pytest.mark.hydra
def test_a_bad_value_is_found_before_the_first_job_trains(train: Train, tmp_path: Path) -> None:
    done = train(*SHORT, "learning_rate=1e-3,-1", "model.net.dropout=0.1,1.5", f"output_dir={tmp_path}/mine")
    assert done.status == 2
    assert "2 problems" in done.err
    assert "learning_rate: -1" in done.err
    assert "model.net.dropout: 1.5" in done.err
    assert not (tmp_path / "mine").exists()


@pytest.mark.hydra
def test_a_job_that_fails_leaves_the_others_alone(train: Train) -> None:
    done = train(*SHORT, "learning_rate=1e9,1e-2", "optimizer=sgd")
    assert done.status == 1
    assert len(list(done.folder.glob("multirun/*/*/trials/1/metrics.json"))) == 1
    assert re.search(r"│ 0 +│ 1000000000.0 +│ failed", done.out)
    assert "training diverged" in done.err
    assert done.err.splitlines()[-1] == "  in job 0 (learning_rate=1000000000.0)"


@pytest.mark.more
def test_an_interrupted_multirun_shows_the_jobs_that_ended(tmp_path: Path) -> None:
    sweep = ("-m", "epochs=1,100000", "patience=100000", "threads=1", "data=breast_cancer")
    command = [sys.executable, str(ROOT / "train.py"), *sweep]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) as process:
        assert process.stdout
        while "epoch: 3" not in (line := process.stdout.readline()):
            assert line, "ended by itself"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [row[:2] for row in table_of(out)] == [["0", "1"]]
    assert out.splitlines()[-1].endswith("/trials/<job>")
