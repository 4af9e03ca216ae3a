"""Data of a user's own in a search, with the mistake that its YAML invites."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.readme import copy_of_the_project

CODE = """
from dataclasses import dataclass

import numpy as np
from alphard.data import Splits, Table, TableData


@dataclass
class Moons(TableData):
    rows: int = 90

    def load(self) -> Splits:
        X = np.random.default_rng(0).standard_normal((self.rows, 2)).astype(np.float32)
        y = (X[:, 0] > X[:, 1] ** 2).astype(np.int64)
        return Splits.of([Table(X[::2], y[::2]), Table(X[1::2], y[1::2])], ["a", "b"], ["out", "in"])
"""
SPACE = ("search.trials=4", "search.parallel=2", "epochs=2", "search.initial=[]")
WARNING = (
    "warning: data: mine.moons.Moons takes batch_size and is not told; the setting says nothing until its YAML has "
    "batch_size: ${batch_size}"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    (folder / "src/mine").mkdir()
    (folder / "src/mine/moons.py").write_text(CODE)
    (folder / "configs/data/moons.yaml").write_text("_target_: mine.moons.Moons\nrows: 90\nseed: ${seed}\n")
    return folder


def call(project: Path, *line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", "data=moons", "threads=1", *line]
    where = environment(PYTHONPATH=":".join(filter(None, [str(project / "src"), environment().get("PYTHONPATH")])))
    return subprocess.run(command, cwd=project, env=where, capture_output=True, text=True, check=False)


@pytest.mark.more  # several cold starts
def test_a_batch_size_that_says_nothing_is_told_once(project: Path) -> None:
    done = call(project, "epochs=1", "batch_size=8", "output_dir=alone")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [WARNING]
    quiet = call(project, "epochs=1", "+data.batch_size=${batch_size}", "output_dir=told")
    assert (quiet.returncode, quiet.stderr) == (0, "")


@pytest.mark.more
def test_a_search_tells_it_once_and_before_its_first_trial(project: Path) -> None:
    done = call(project, "search=mlp", *SPACE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [WARNING]
    assert "4 (4 complete)" in done.stdout


@pytest.mark.more
def test_rows_of_ones_own_train_in_packs(project: Path) -> None:
    told = ("+data.batch_size=${batch_size}", "output_dir=packed", "search.engine=packed", "search.parallel=1")
    done = call(project, "search=mlp", *SPACE, *told, "model.net.hidden=[8]", "optimizer=adamw")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 (4 complete)" in done.stdout
    assert "one at a time" not in done.stdout  # which a line says where trials do not pack
