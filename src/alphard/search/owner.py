"""Who works on a study: each process has a name, and others can tell whether it still lives."""

import contextlib
import fcntl
import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

LEASE = 60.0  # seconds for which a process on another machine counts as alive after its last word


class Owner:
    """This process, as long as it holds the lock on a file of its own in the study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, uuid.uuid4().hex[:12]
        self._file: BinaryIO = _path(folder, self.name).open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._said = 0.0

    def word(self) -> dict[str, Any] | None:
        """What to say to other machines; None where the last word is young enough."""
        now = time.time()
        if now - self._said < LEASE / 3:
            return None
        self._said = now
        return {"host": socket.gethostname(), "pid": os.getpid(), "until": now + LEASE}

    def lives(self, name: str, word: Mapping[str, Any] | None) -> bool:
        """Whether the owner called `name` does; the file of one that is dead is removed."""
        if name == self.name or lives(self.folder, name, word):
            return True
        if word is not None:
            _path(self.folder, name).unlink(missing_ok=True)
        return False

    def bury(self, words: Mapping[str, Any]) -> None:
        """Remove the files of this machine's dead owners, who left no trial by which `lives` would come to them.

        words: each owner's last one, by `owner NAME`.  One without a word may only be beginning.
        """
        for path in self.folder.glob(".owner-*"):
            name = path.name.removeprefix(".owner-")
            word = words.get(f"owner {name}")
            if word is not None and word["host"] == socket.gethostname():
                self.lives(name, word)

    def close(self) -> None:
        """From here on, others take what this process left."""
        with contextlib.suppress(FileNotFoundError):
            _path(self.folder, self.name).unlink()
        self._file.close()


def lives(folder: Path, name: str, word: Mapping[str, Any] | None) -> bool:
    """Whether the owner called `name` does, whose last word is `word`: here by its lock, elsewhere by its lease."""
    if word is None:
        return False
    if word["host"] != socket.gethostname():
        return bool(word["until"] > time.time())
    try:
        with _path(folder, name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _path(folder: Path, name: str) -> Path:
    return folder / f".owner-{name}"
