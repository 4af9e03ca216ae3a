"""A disk that fills while a run writes, and one that is read-only: nothing is half-written, nothing made is lost."""

import contextlib
import io
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphard import checkpoint
from alphard.errors import TrainingError, UserError
from alphard.log import Log
from alphard.storage import Folder
from tests.conftest import ROOT, Done, environment, run_alphard, run_train
from tests.killing import has_saved, left_by, resumptions

LINE = ["data=digits", "epochs=60", "patience=60", "threads=1", "checkpoint_seconds=0.05"]


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Writing fails as on a full disk, for this process, by the kernel's own doing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_write_that_does_not_fit_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")
    with no_file_beyond(1000):
        with pytest.raises(TrainingError, match=rf"^output_dir: {tmp_path}/a cannot be written: File too large$"):
            folder.write("a", b"new" * 1000)
        with (
            pytest.raises(TrainingError, match=rf"^output_dir: {tmp_path}/b cannot be written: File too large$"),
            folder.writing("b") as path,
        ):
            path.write_bytes(b"new" * 1000)
        with pytest.raises(UserError, match=rf"^output_dir: {tmp_path} cannot be written: File too large$"):
            folder.must_be_writable()
    assert folder.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_checkpoint_that_does_not_fit_leaves_those_before_it(tmp_path: Path) -> None:
    store = checkpoint.Store(Folder(str(tmp_path)))
    for step in (1, 2):
        store.add(step, checkpoint.dumps({"step": step}))
    with no_file_beyond(100), pytest.raises(TrainingError, match="File too large"):
        store.add(3, checkpoint.dumps({"step": 3}))
    assert len(os.listdir(tmp_path)) == 2
    assert checkpoint.Store(Folder(str(tmp_path))).newest() == {"step": 2}
    store.add(4, checkpoint.dumps({"step": 4}))
    assert checkpoint.Store(Folder(str(tmp_path))).newest() == {"step": 4}
    assert len(os.listdir(tmp_path)) == 2


def test_log_goes_on_in_memory_and_is_whole_when_there_is_room_again(tmp_path: Path) -> None:
    path, log = tmp_path / "training.log", Log()
    with contextlib.redirect_stdout(io.StringIO()), log:  # pytest's own goes to a file as well
        log.open(path)
        print("first")
        with no_file_beyond(10):
            print("second line, torn by the disk")
            print("third")
            assert path.read_bytes() + log.lost == b"first\nsecond line, torn by the disk\nthird\n"
            assert len(log.lost) > 20
        print("fourth")
    assert path.read_text() == "first\nsecond line, torn by the disk\nthird\nfourth\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Small disks of a test's own; needs root."""
    places: list[Path] = []

    def mount(size: str, name: str = "disk") -> Path:
        place = tmp_path / name
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = place / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def filled(folder: Path, place: Path, *line: str, **more: str) -> Done:
    """`python train.py LINE`, whose disk is full from its first whole checkpoint on."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, str(ROOT / "train.py"), *line]
        process = subprocess.Popen(command, cwd=folder, env=environment(**more), stdout=out, stderr=err)
        until = time.monotonic() + 100
        while not has_saved(place / "run"):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.001)
        fill(place)
        status = process.wait(200)
        out.seek(0)
        err.seek(0)
        return Done(status, out.read(), err.read(), folder)


@pytest.mark.more
def test_run_on_a_disk_that_fills_is_kept_elsewhere_and_goes_on_when_there_is_room(
    mounted: Callable[..., Path], tmp_path: Path
) -> None:
    whole = run_train(tmp_path, *LINE, "output_dir=whole")
    assert whole.status == 0, whole.err
    disk = mounted("4m")
    line = [*LINE, f"output_dir={disk}/run"]
    done = filled(tmp_path, disk, *line)
    assert done.status == 1, done.out + done.err
    assert re.search(
        r"step-\d+\.ckpt cannot be written: No space left on device; the disk is full; make room", done.out
    )
    assert "tried again with the next checkpoint" in done.out
    said = (
        r"error: output_dir: \S+ cannot be written: No space left on device; the disk is full; make room, and say .*\n"
    )
    found = re.fullmatch(
        said + r"  all artifacts of the run are kept in (\S+); when it can be written: (cp .*)\n", done.err
    )
    assert found, done.err
    kept = Path(found[1])
    assert kept.is_relative_to(tmp_path)
    assert left_by(kept) == left_by(tmp_path / "whole")
    assert {path.name for path in kept.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    assert "epoch: 60" in (kept / "training.log").read_text()
    left = [path.name for path in (disk / "run").rglob("*")]
    assert not [name for name in left if name.startswith(".")], "half of a file"
    assert "metrics.json" not in left
    for path in (disk / "run/checkpoints").iterdir():
        assert checkpoint.loads(path.read_bytes())
    fill(disk)  # what the last attempt has left free
    refused = run_train(tmp_path, *line)
    assert refused.status == 2, refused.out
    said = (
        rf"error: output_dir: {disk}/run cannot be written: No space left on device; the disk is full; make room, .*\n"
    )
    assert re.fullmatch(said, refused.err), refused.err
    (disk / "ballast").unlink()
    again = run_train(tmp_path, *line)
    assert again.status == 0, again.err
    assert len(resumptions(disk / "run")) == 1
    assert left_by(disk / "run") == left_by(tmp_path / "whole")
    copied = tmp_path / "copied"
    subprocess.run(found[2].replace(f"{disk}/run", str(copied)), shell=True, check=True)
    assert run_train(tmp_path, *LINE, f"output_dir={copied}").status == 0
    assert left_by(copied) == left_by(tmp_path / "whole")


@pytest.mark.more
def test_run_is_kept_among_temporary_files_where_its_own_place_is_on_the_same_disk(
    mounted: Callable[..., Path], tmp_path: Path
) -> None:
    disk = mounted("4m")
    spare = tmp_path / "spare"
    spare.mkdir()
    done = filled(disk, disk, *LINE, "output_dir=run", TMPDIR=str(spare))
    assert done.status == 1, done.out + done.err
    kept = next(spare.glob("rescued-*"))
    assert f"all artifacts of the run are kept in {kept}; " in done.err
    assert (kept / "metrics.json").exists()
    assert not list(disk.glob("outputs/**/rescued-*"))


@pytest.mark.more
def test_run_that_can_be_kept_nowhere_says_so(mounted: Callable[..., Path]) -> None:
    disk = mounted("4m")
    done = filled(disk, disk, *LINE, "output_dir=run", TMPDIR=str(disk))
    assert done.status == 1, done.out + done.err
    assert done.err.count("error: ") == 1
    assert "nor can the run's artifacts be kept elsewhere (" in done.err
    assert not list(disk.glob("**/rescued-*"))
    for path in (disk / "run/checkpoints").iterdir():
        assert checkpoint.loads(path.read_bytes())


@pytest.mark.more
def test_read_only_disk_is_refused_before_training(mounted: Callable[..., Path], tmp_path: Path) -> None:
    disk = mounted("4m")
    done = run_train(tmp_path, "data=synthetic", "epochs=1", f"output_dir={disk}/run")
    assert done.status == 0, done.err
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = sorted(disk.rglob("*"))
    for folder in ("other", "run"):
        line = [f"output_dir={disk}/{folder}", "overwrite=true"]
        done = run_train(tmp_path, "data=synthetic", "epochs=1", *line)
        assert done.status == 2, done.out
        said = rf"error: output_dir: {disk}/{folder} cannot be written: Read-only file system; name a folder on a disk .*\n"
        assert re.fullmatch(said, done.err), done.err
    done = run_train(disk, "data=synthetic", "epochs=1")
    assert done.status == 2, done.out
    assert re.fullmatch(r"error: hydra\.run\.dir: \S+ cannot be made: Read-only file system; name .*\n", done.err), (
        done.err
    )
    done = run_train(tmp_path, "data=synthetic", "epochs=1", f"output_dir={disk}/run")
    assert done.status == 0, done.err  # the finished run is only read
    assert sorted(disk.rglob("*")) == before
    prepared = run_alphard(ROOT, "prepare", "data=synthetic", f"out={disk}/p")
    assert prepared.status == 2, prepared.out
    assert re.match(rf"error: out: {disk}/p cannot be written: Read-only file system; name", prepared.err)


@pytest.mark.more
def test_commands_on_a_disk_that_is_full_leave_no_half_of_a_file(mounted: Callable[..., Path], tmp_path: Path) -> None:
    disk = mounted("64k")
    chance = random.Random(0)  # what no compression makes small
    rows = "".join(f"{(a := chance.random())},{chance.random()},{a > 0.5}\n" for _ in range(9000))
    (tmp_path / "rows.csv").write_text(f"a,b,label\n{rows}")
    line = ["data=csv", f"data.path={tmp_path}/rows.csv", "data.target=label"]
    assert run_train(tmp_path, *line, "epochs=1", "output_dir=run").status == 0
    for arguments in (
        ["prepare", *line, f"out={disk}/p"],
        ["predict", f"{tmp_path}/run", f"{tmp_path}/rows.csv", f"out={disk}/new.csv"],
        ["predict", f"{tmp_path}/run", f"{tmp_path}/rows.csv", f"out={disk}/new.csv.gz", "keep=all"],
        ["predict", f"{tmp_path}/run", f"{tmp_path}/rows.csv", f"out={disk}/new.parquet", "keep=all"],
    ):
        done = run_alphard(ROOT, *arguments)
        assert done.status == 1, (arguments, done.out, done.err)
        said = rf"error: out: {disk}/\S+ cannot be written: No space left on device; the disk is full; make room, .*\n"
        assert re.fullmatch(said, done.err), done.err
        assert not [path for path in disk.rglob("*") if path.is_file()], arguments
