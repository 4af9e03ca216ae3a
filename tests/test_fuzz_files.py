"""Every file that a command reads, changed at random: success or one clear error, and nothing that lay there is harmed.

ALPHARD_TEST_SEED=N changes them otherwise, ALPHARD_TEST_FILES=N so many; ALPHARD_TEST_CASE=KIND-N makes that one case
alone, and keeps its folder.
"""

import csv
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT, WARM, environment
from tests.fuzzing import (
    Call,
    Ended,
    Mutate,
    of_archive,
    of_bytes,
    of_checkpoint,
    of_json,
    of_lines,
    of_text,
    of_yaml,
    serve,
)
from tests.in_process import run_here
from tests.killing import cut_at
from tests.test_load import searched

SEED, ALONE = os.environ.get("ALPHARD_TEST_SEED", "0"), os.environ.get("ALPHARD_TEST_CASE")
CASES, SERVERS = int(os.environ.get("ALPHARD_TEST_FILES", "700")), 2
MEMORY = 2 << 30  # bytes that a command may have resident
SMALL = ("threads=1", "epochs=2", "batch_size=32", "patience=2")
TRAIN = ("train", *SMALL, "output_dir=out")
PREDICT = ("alphard", "predict", "run", "new.csv", "out=out.csv")
RESULTS = ("alphard", "results", "run")
STUDY = ("alphard", "results", "study")
MINE = """# @package _global_
defaults:
  - override /data: csv
data:
  path: rows.csv
  target: y
  drop: [c]
  categorical: [b]
  test_fraction: 0.1
learning_rate: 0.002
weight_decay: 1e-2
model: {net: {hidden: [16, 8], dropout: 0.2}}
"""


@dataclass(frozen=True)
class Kind:
    """A file, what else a command needs beside it, the commands that read it, and how it is changed."""

    file: str
    needs: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    how: tuple[Mutate, ...]
    share: int = 1


AGAIN = ("train", *SMALL, "data=csv", "data.target=y", "output_dir=run")
ON = ("train", *SMALL, "data=csv", "data.target=y", "checkpoint_seconds=0", "output_dir=cut")
KINDS = {
    "npz": Kind("t.npz", ("v.npz",), ((*TRAIN, "data=npz", "data.train=t.npz", "data.validation=v.npz"),), (of_bytes, of_archive), 2),
    "csv": Kind("rows.csv", (), ((*TRAIN, "data=csv", "data.path=rows.csv", "data.target=y"),), (of_bytes, of_text, of_text), 2),
    "parquet": Kind("rows.parquet", (), ((*TRAIN, "data=csv", "data.path=rows.parquet", "data.target=y"),), (of_bytes,)),
    "rows": Kind("new.csv", ("run",), (PREDICT,), (of_bytes, of_text)),
    "experiment": Kind(
        "extra/experiment/mine.yaml",
        ("rows.csv",),
        ((*TRAIN, "--config-dir=extra", "experiment=mine"), ("train", "--config-dir=extra", "experiment=mine", "--cfg=job"), ("alphard", "check", "experiment=mine")),
        (of_bytes, of_text, of_text, of_yaml, of_yaml),
        2,
    ),
    "config": Kind("run/config.yaml", ("run", "new.csv"), (PREDICT, RESULTS, AGAIN), (of_bytes, of_text, of_yaml), 2),
    "metrics": Kind("run/metrics.json", ("run", "new.csv"), (PREDICT, RESULTS, AGAIN), (of_bytes, of_text, of_json, of_json), 2),
    "weights": Kind("run/model.pt", ("run", "new.csv"), (PREDICT,), (of_bytes, of_archive)),
    "preprocessing": Kind("run/preprocessing.skops", ("run", "new.csv"), (PREDICT,), (of_bytes, of_archive)),
    "history": Kind("run/eval_history.csv", ("run",), (RESULTS,), (of_bytes, of_text)),
    "curves": Kind("run/curves.json", ("run",), (RESULTS,), (of_bytes, of_json)),
    "checkpoint": Kind("cut/checkpoints/NEWEST", ("cut",), (ON,), (of_bytes, of_bytes, of_checkpoint)),
    "journal": Kind("study/journal.log", ("study",), (STUDY,), (of_bytes, of_text, of_lines, of_lines), 2),
    "study": Kind("study/study.yaml", ("study",), (STUDY,), (of_bytes, of_text, of_yaml, of_yaml)),
}  # fmt: skip


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each, sound."""
    folder = tmp_path_factory.mktemp("valid")
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({"a": chance.random(120), "b": chance.choice(["x", "y", "z"], 120), "c": chance.random(120)})
    frame.loc[::9, "c"] = np.nan
    frame["y"] = np.where(frame.a + chance.random(120) > 1, "yes", "no")
    frame.to_csv(folder / "rows.csv", index=False)
    frame.to_parquet(folder / "rows.parquet")
    frame.drop(columns="y")[:20].to_csv(folder / "new.csv", index=False)
    for name, suffix, rows in (("t", "train", 80), ("v", "val", 40)):
        X = chance.random((rows, 4), dtype=np.float32)
        np.savez(folder / f"{name}.npz", **{f"X_{suffix}": X, f"y_{suffix}": chance.integers(3, size=rows)})
    line = (*SMALL, "data=csv", f"data.path={folder}/rows.csv", "data.target=y")
    run_here(folder / "run", *line)
    run_here(folder / "whole", *line, "checkpoint_seconds=0")
    cut_at(6, folder / "cut", *line, "checkpoint_seconds=0")
    searched(folder / "study", 6)
    (folder / "study/.lock").unlink()
    (folder / "extra/experiment").mkdir(parents=True)
    (folder / "extra/experiment/mine.yaml").write_text(MINE)
    (folder / "alphard.py").write_text("import sys\nfrom alphard.cli import main\nsys.exit(main())\n")
    return folder


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Connection]]:
    ours, processes = [], []
    for _ in range(SERVERS):
        here, there = WARM.Pipe()
        processes.append(WARM.Process(target=serve, args=(there,)))
        processes[-1].start()
        there.close()
        ours.append(here)
    yield ours
    for here, process in zip(ours, processes, strict=True):
        here.send(None)
        process.join(30)
        process.close()


def beside(folder: Path, valid: Path, kind: Kind) -> Path:
    """The case's folder, with what it needs; returns the file to change."""
    for name in {kind.file.split("/")[0], *kind.needs}:
        copy = shutil.copytree if (valid / name).is_dir() else shutil.copy
        copy(valid / name, folder / name)
    if kind.file.startswith("extra/"):  # alphard check looks into configs/ of where it is called
        (folder / "configs").mkdir()
        for path in (ROOT / "configs").iterdir():
            if path.name != "experiment":
                (folder / "configs" / path.name).symlink_to(path)
        (folder / "configs/experiment").symlink_to(folder / "extra/experiment")
    if kind.file.endswith("/NEWEST"):
        return max((folder / kind.file).parent.iterdir())
    return folder / kind.file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def case(name: str, valid: Path, folder: Path, server: Connection) -> None:
    """Change the file as the case's name decides, and say the command; AssertionError, with the case, for a fault."""
    kind, chance = KINDS[name.rpartition("-")[0]], random.Random(f"{SEED} {name}")
    (folder / "here").mkdir(parents=True)
    here, said = folder / "here", folder
    file = beside(here, valid, kind)
    file.write_bytes(chance.choice(kind.how)(file.read_bytes(), chance))
    program, *words = chance.choice(kind.commands)
    if program == "train" and kind.file.split("/")[0] in ("run", "cut"):
        words.append(f"data.path={valid}/rows.csv")
    debug = program == "train" and chance.random() < 0.1 and "--cfg=job" not in words
    before = contents(here)
    script = str(ROOT / "train.py" if program == "train" else valid / "alphard.py")
    flags, rest = ([word for word in words if word.startswith("--") is first] for first in (True, False))
    server.send(Call(script, (*flags, *rest, *["debug=true"] * debug), str(here), environment(), str(said)))
    ended: Ended = server.recv()
    out, err = ((said / each).read_text(errors="replace") for each in ("out", "err"))
    aside = f"{name}: {program} {' '.join(words)}: status {ended.status}\n{out[-500:]}\n{err[-3000:]}"
    assert ended.status is not None, f"hangs: {aside}"
    assert ended.status in (0, 1, 2), aside
    assert ended.memory < MEMORY, f"{ended.memory >> 20} MB: {aside}"
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert ("Traceback" in out + err) == (debug and ended.status != 0), aside
    assert len(errors) == (ended.status != 0), aside
    assert "debug=true shows the traceback" not in err, f"unforeseen: {aside}"
    after = contents(here)
    assert not [path for path in after if re.search(r"(^|/)\.[^/]*\.[^/]+$", path)], f"half-written: {aside}"
    if ended.status == 0:
        must_be_whole(kind, words, before, after, valid, aside)
        return
    named = file.stem in err or re.search(r"error: (\d+ problems\n  )?[^\n]+: ", err)
    assert named, f"names nothing: {aside}"
    assert not re.search(r"error: \w+(Error|Exception): ", err), f"unforeseen: {aside}"
    new = after.keys() - before.keys()
    if kind.file == "study/study.yaml" and "study/report.html" in new:  # they are whole, and the winner is not composed
        new -= {"study/trials.csv", "study/report.html"}
    assert ended.status == 1 or not new, f"leaves {new}: {aside}"
    assert not [path for path in before if after.get(path) != before[path]], f"harms: {aside}"


def must_be_whole(
    kind: Kind, words: list[str], before: dict[str, bytes], after: dict[str, bytes], valid: Path, aside: str
) -> None:
    """What a command left that went well."""
    if words[0] == "predict":
        given = before["new.csv"].decode(errors="replace")
        assert after["out.csv"].endswith(b"\n"), aside
        assert len([*csv.reader(after["out.csv"].decode().splitlines())]) >= 1 + (kind.file != "new.csv") * 20, given
    elif words[0] == "results":
        assert after[f"{words[1]}/report.html"].rstrip().endswith(b"</html>"), aside
        assert {path: after.get(path) for path in before if "report" not in path} == before, aside
    elif any(word.startswith("output_dir=") for word in words):
        home = next(word for word in words if word.startswith("output_dir=")).removeprefix("output_dir=")
        found = json.loads(after[f"{home}/metrics.json"])
        assert kind.file == f"{home}/metrics.json" or found["stopped_by"] is None, aside
        assert not [path for path in after if path.startswith(f"{home}/checkpoints")], aside
        if home == "cut" and "is torn or corrupt" in aside:
            assert after["cut/model.pt"] == (valid / "whole/model.pt").read_bytes(), aside


def names(total: int) -> list[str]:
    """So many cases, by kind and number."""
    shares = sum(kind.share for kind in KINDS.values())
    return [f"{name}-{n}" for name, kind in KINDS.items() for n in range(max(1, total * kind.share // shares))]


def must_hold(chosen: list[str], valid: Path, folder: Path, servers: list[Connection]) -> None:
    assert chosen
    faults: list[str] = []

    def work(mine: list[str], server: Connection) -> None:
        for name in mine:
            place = folder / str(chosen.index(name))  # whose own name says nothing of the file's
            try:
                case(name, valid, place, server)
            except AssertionError as fault:
                faults.append(str(fault))
            else:
                if name != ALONE:
                    shutil.rmtree(place)

    with ThreadPoolExecutor(len(servers)) as pool:
        parts = [pool.submit(work, chosen[n :: len(servers)], server) for n, server in enumerate(servers)]
        for part in parts:
            part.result()
    assert not faults, f"{len(faults)} of {len(chosen)}:\n" + "\n\n".join(faults)


@pytest.mark.more
def test_some_changed_files_are_read_or_refused(valid: Path, tmp_path: Path, servers: list[Connection]) -> None:
    must_hold([ALONE] if ALONE else names(36), valid, tmp_path, servers)


@pytest.mark.more(minutes=6)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_changed_files_are_read_or_refused(
    kind: str, valid: Path, tmp_path: Path, servers: list[Connection]
) -> None:
    must_hold([name for name in names(CASES) if name.startswith(f"{kind}-")], valid, tmp_path, servers)
