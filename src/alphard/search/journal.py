"""Optuna's journal in one file: appended under flock, which ends with its process, and mended where it was torn."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend

from alphard.errors import UserError

PATIENCE = 30.0  # seconds that another process may hold the lock; a busy disk takes some of them


class Journal(BaseJournalBackend):
    """One JSON object a line.  A last line without its end is what a killed process left; the next append cuts it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = [0]  # the byte at which each line begins
        self.pending: list[bytes] | None = None  # lines that wait for the end of `held`
        path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The whole lines from number `log_number_from` on; UserError where one is not JSON."""
        for number, line in enumerate(self._lines(log_number_from), log_number_from):
            if number + 1 == len(self.starts):
                self.starts.append(self.starts[-1] + len(line))
            try:
                log = json.loads(line.decode())  # of bytes it would guess the encoding, line by line
            except (ValueError, RecursionError):
                log = None
            if not _is_log(log):
                where = f"{self.path}:{number + 1}"
                raise UserError(f"search.storage: {where} is no line of a study's journal; restore the file")
            yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole lines, and wait until the disk has them; inside `held`, they wait for its end."""
        with self.held():
            assert self.pending is not None, "held"
            self.pending += [(json.dumps(log, separators=(",", ":")) + "\n").encode() for log in logs]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from appending, and at the end append in one piece what was appended inside, come what may.

        Until then this object alone reads it, and nobody if the process dies.
        """
        if self.pending is not None:
            yield
            return
        with self.path.open("r+b") as file:
            lock(file, "search.storage")
            _mend(file)
            self.whole = self._count(file)
            self.pending = []
            try:
                yield
            finally:
                lines, self.pending = b"".join(self.pending), None
                if lines:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())

    def _count(self, file: BinaryIO) -> int:
        """How many whole lines the file has, which is mended."""
        end = file.tell()
        file.seek(self.starts[-1])
        for line in file.read(end - self.starts[-1]).splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        return len(self.starts) - 1

    def _lines(self, first: int) -> list[bytes]:
        if self.pending is not None and first >= self.whole:
            return self.pending[first - self.whole :]
        with self.path.open("rb") as file:
            file.seek(self.starts[first])
            content = file.read()
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        return lines + (self.pending or [])


def _is_log(log: Any) -> bool:
    """Whether Optuna wrote it, as far as what it never looks at itself goes: the numbers."""
    if not isinstance(log, dict):
        return False
    values, told = log.get("values"), log.get("intermediate_value", 0)
    numbers = [told, *values] if isinstance(values, list) else [told]
    known = isinstance(log.get("user_attr", {}), dict) and isinstance(values, list | None)
    return known and all(isinstance(number, int | float) for number in numbers)


def lock(file: BinaryIO, at: str, patience: float = PATIENCE) -> None:
    """Hold `file` alone until it is closed; UserError at config path `at` where another process keeps it."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise UserError(f"{at}: {file.name} has been locked by another process for {patience:g} s") from None
            time.sleep(0.005)
        else:
            return


def _mend(file: BinaryIO) -> None:
    """Cut what stands after the last line's end, and stand there."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    file.seek(end)
