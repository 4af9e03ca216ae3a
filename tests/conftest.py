"""Fixtures that run the real commands, in a folder of the test's own."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # data that a user has not; what needs it is made otherwise where it is missing

# Before torch is imported: test processes share cores, and threads that wait for others by looping take them away.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

# train.py, or alphard, in a fork of a process that has imported what they need: the same file, run as __main__ in an
# environment, folder and output of its own, without four seconds of imports.  `make test-all` runs it cold.
COLD = os.environ.get("ALPHARD_TEST_COLD") == "1"
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["tests.warm"])

LONGEST = 600.0  # seconds of one command, on a machine that does much besides


@dataclass
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str
    folder: Path


Train = Callable[..., Done]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin, and the smallest end, so that no core is idle at the end of `--dist loadfile`."""
    minutes, tests = Counter[Path](), Counter(item.path for item in items)
    for item in items:
        for mark in item.iter_markers("more"):
            minutes[item.path] = max(minutes[item.path], mark.kwargs.get("minutes", 0))
    items.sort(key=lambda item: (-minutes[item.path], -tests[item.path]))


def copied(folder: Path, *names: str) -> Path:
    """Folders and files of the project, copied to `folder` as a clone has them, without what is one user's own."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            own = shutil.ignore_patterns("__pycache__", "local", "local.yaml")
            shutil.copytree(ROOT / name, folder / name, ignore=own)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def environment(**more: str) -> dict[str, str]:
    """One thread a process, and nothing of a cloud that the tests might run in."""
    others = ("AIP_", "CLOUD_ML_", "SM_", "ALPHARD_", "HYDRA_", "PL_")
    mine = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return mine | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", **more}


def run_train(folder: Path, *arguments: str, cold: bool = COLD, **more: str) -> Done:
    """`python train.py ARGUMENTS`, called in `folder`, with environment variables `more`."""
    return _ran(ROOT / "train.py", folder, arguments, cold, more)


def run_alphard(folder: Path, *arguments: str, cold: bool = COLD, **more: str) -> Done:
    """`alphard ARGUMENTS`, likewise."""
    return _ran(Path(sys.executable).with_name("alphard"), folder, arguments, cold, more)


def _ran(script: Path, folder: Path, arguments: tuple[str, ...], cold: bool, more: dict[str, str]) -> Done:
    if cold:
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=LONGEST, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr, folder)
    from tests.warm import run_forked

    with tempfile.TemporaryDirectory() as said:
        call = (str(script), arguments, str(folder), environment(**more), said)
        process = WARM.Process(target=run_forked, args=call)
        process.start()
        process.join(LONGEST)
        assert process.exitcode is not None, "the command hangs"
        out, err = (Path(said, name).read_text() for name in ("out", "err"))
        status = process.exitcode
        process.close()
    return Done(status, out, err, folder)


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """`python train.py …` in a folder of the test's own."""

    def call(*arguments: str, **more: str) -> Done:
        return run_train(tmp_path, *arguments, **more)

    return call
