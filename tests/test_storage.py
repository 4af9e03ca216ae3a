"""Folders on a disk and elsewhere: what is written is there whole or not at all, and a wrong name is said early."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

import fsspec
import pytest

from alphard.errors import TrainingError, UserError
from alphard.storage import Folder, is_url, reading


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that is not there yet."""
    return Folder(str(tmp_path / "new") if request.param == "disk" else f"memory://{tmp_path.name}/new")


def names(folder: Folder) -> list[str]:
    """All that lies in the folder, hidden files too."""
    return sorted(path.rsplit("/", 1)[-1] for path in folder.fs.find(folder.path))


@pytest.mark.parametrize(
    ("path", "url"),
    [("gs://b/x", True), ("memory://x", True), ("/a/b", False), ("a", False), ("file:///a", False), ("C:/a", False)],
)
def test_url_is_told_from_path(path: str, url: bool) -> None:
    assert is_url(path) == url


def test_what_is_written_is_read_back_and_parents_are_made(folder: Folder) -> None:
    content = bytes(range(256)) * 1000
    assert folder.read("a.bin") is None
    uri = folder.write("a.bin", content)
    assert folder.read("a.bin") == content
    with reading(uri, "data.path") as file:
        assert file.read() == content
    folder.write("logs/deep/b.txt", b"b")
    assert folder.read("logs/deep/b.txt") == b"b"


def test_second_write_replaces_the_first(folder: Folder) -> None:
    folder.write("a", b"long content")
    folder.write("a", b"short")
    assert folder.read("a") == b"short"
    assert names(folder) == ["a"]


def test_remove_is_done_once_and_again(folder: Folder) -> None:
    folder.write("a", b"a")
    folder.remove("a")
    folder.remove("a")
    assert folder.read("a") is None


@pytest.mark.parametrize("url", [False, True])
def test_local_folder_by_path_and_by_file_url(tmp_path: Path, url: bool) -> None:
    folder = Folder(f"file://{tmp_path}/x" if url else f"{tmp_path}/x/")
    assert folder.local == tmp_path / "x"
    assert folder.uri("a") == f"{tmp_path}/x/a"


def test_relative_folder_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder("out")
    monkeypatch.chdir("/")
    folder.write("a", b"a")
    assert (tmp_path / "out" / "a").read_bytes() == b"a"


def test_folder_with_odd_characters(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "a b=c,[d]{e}#?*é::f"))
    folder.must_be_writable()
    folder.write("m n", b"x")
    assert folder.read("m n") == b"x"
    folder.remove("m n")
    assert folder.read("m n") is None


def test_failed_write_leaves_the_old_content_and_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")

    def disk_full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(TrainingError, match=r"output_dir: .* cannot be written: No space left"):
        folder.write("a", b"new")
    with pytest.raises(TrainingError, match=r"output_dir: .* cannot be written: No space left"):
        folder.write("b", b"new")
    assert folder.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_interrupted_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Folder(str(tmp_path)).write("a", b"new")
    assert os.listdir(tmp_path) == []


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")
    with (tmp_path / "a").open("rb") as file:
        folder.write("a", b"new and longer")
        assert file.read() == b"old"


def test_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    Folder(str(tmp_path)).write("a", b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_must_be_writable_leaves_nothing_behind(folder: Folder, tmp_path: Path) -> None:
    folder.must_be_writable()
    assert names(folder) == []
    assert os.listdir(tmp_path) == []


def test_must_be_writable_keeps_what_was_there(folder: Folder) -> None:
    folder.write("a", b"a")
    folder.must_be_writable()
    assert names(folder) == ["a"]


@pytest.mark.parametrize("path", ["file", "file/sub", "file/sub/sub"])
def test_folder_under_a_file_is_refused_at_its_config_path(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(UserError, match=rf"^output_dir: {tmp_path}/{path} cannot be written: "):
        Folder(str(tmp_path / path)).must_be_writable()
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_reading_under_a_file_is_refused_at_its_config_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"^output_dir: .* lies under a file"):
        Folder(str(tmp_path / "file" / "sub")).read("config.yaml")
    with (
        pytest.raises(UserError, match=r"^data.path: .* cannot be opened: Not a directory"),
        reading(str(tmp_path / "file" / "sub"), "data.path"),
    ):
        pass


def test_folder_that_cannot_be_made_is_refused_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^output_dir: .* cannot be written: File name too long"):
        Folder(str(tmp_path / ("x" * 300))).must_be_writable()


class Offline(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system of a package that is installed and finds no server."""

    protocol = "oss"

    def __init__(self, **_: Any) -> None:
        raise OSError("HDFS connection failed\nand a page of details")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://b/x", ": nothing is known that opens nosuch://; give a local path or gs://…"),
        ("reference://b/x", ": nothing is known that opens reference://; give a local path or gs://…"),
        ("adl://b/x", " needs a package that is not installed: "),  # known to fsspec, no dependency of ours
        ("oss://b/x", " cannot be opened: HDFS connection failed"),
    ],
)
def test_url_that_nothing_opens_is_refused_at_its_config_path(url: str, words: str) -> None:
    fsspec.register_implementation("oss", Offline, clobber=True)
    with pytest.raises(UserError) as named:
        Folder(url, "output_dir")
    assert str(named.value).startswith(f"output_dir: {url}{words}")
    with pytest.raises(UserError) as read, reading(url, "data.path"):
        pass
    assert str(read.value).startswith(f"data.path: {url}{words}")


def test_error_of_the_reader_stays_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(ValueError, match="mine"), reading(str(tmp_path / "a"), "data.path"):
        raise ValueError("mine")
    with pytest.raises(FileNotFoundError, match="mine"), reading(str(tmp_path / "a"), "data.path"):
        raise FileNotFoundError("mine")


def test_bucket_that_refuses_is_a_problem_of_the_output_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder("memory://refusing/out")

    def forbidden(*_: Any, **__: Any) -> None:
        raise RuntimeError("403: no storage.objects.create\nand a page of details")

    monkeypatch.setattr(folder.fs, "pipe_file", forbidden)
    with pytest.raises(UserError, match=r"^output_dir: memory://refusing/out cannot be written: 403: no [\w.]+$"):
        folder.must_be_writable()


def test_reading_gives_a_file_that_can_seek() -> None:
    fsspec.filesystem("memory").pipe_file("/seek/a", b"0123456789")
    with reading("memory://seek/a", "data.path") as file:
        file.seek(-2, io.SEEK_END)
        assert file.read() == b"89"
