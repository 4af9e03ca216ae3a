"""One run a folder at a time: a lock that the kernel frees with the process, however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from alphard.errors import UserError
from alphard.storage import Folder, make

FILE = ".lock"


@contextlib.contextmanager
def alone_in(folder: Folder) -> Iterator[None]:
    """Hold the folder inside; leaves no lock file, and no folder that was not there before and is empty.

    A folder elsewhere knows no locks, and a disk may know none: there, nobody is kept out.

    Raises UserError where another run holds it.
    """
    if folder.local is None:
        yield
        return
    made = make(folder.local)
    try:
        with _held(folder.local / FILE, f"{folder.at}: {folder.path}"):
            yield
    finally:
        with contextlib.suppress(OSError):  # it holds a run by now
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def _held(path: Path, where: str) -> Iterator[None]:
    handle = _locked(path, where)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before it is free: nobody else's is taken away
        os.close(handle)


def _locked(path: Path, where: str) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # who made the folder has just removed it
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            remedy = "wait until it has ended, or choose another folder"
            raise UserError(f"{where}: another run writes here now (pid {owner or 'unknown'}); {remedy}") from None
        except OSError:  # a disk without locks, as some network mounts are
            return handle
        if _is_at(path, handle):
            with contextlib.suppress(OSError):  # a full disk; the lock holds without the number
                os.truncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
            return handle
        os.close(handle)  # its holder unlinked it between our two lines


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
