"""Optuna's journal in one file: appended under flock, which ends with its process, and mended where it was torn."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend

from alphard.errors import UserError

PATIENCE = 10.0  # seconds that another process may hold the lock; one append takes milliseconds


class Journal(BaseJournalBackend):
    """One JSON object a line.  A last line without its end is what a killed process left; the next append cuts it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = [0]  # the byte at which each line begins
        path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The whole lines from number `log_number_from` on; UserError where one is not JSON."""
        with self.path.open("rb") as file:
            file.seek(self.starts[log_number_from])
            content = file.read()
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        for number, line in enumerate(lines, log_number_from):
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
        """Append whole lines, and wait until the disk has them."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.path.open("r+b") as file:
            lock(file, "search.storage")
            _mend(file)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


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
