"""What grows while a run trains, its log and its loggers' files: made on this machine, copied to a folder elsewhere.

An object store knows no appending, so a file that has grown goes there again, whole, in one upload.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from alphard.errors import TrainingError
from alphard.storage import Folder

# An object may be replaced about once a second, and copying takes at most a twentieth of a run's time.
APART, SHARE = 1.0, 20.0


@dataclass(frozen=True)
class Made:
    """A folder, and where its files are made: in itself, or for one elsewhere, in `local` on this machine."""

    folder: Folder
    local: Path


@contextmanager
def made(folder: Folder) -> Iterator[Made]:
    """The folder with its place on this machine, which is removed afterwards if it is another."""
    if folder.local is not None:
        yield Made(folder, folder.local)
        return
    with tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        yield Made(folder, Path(scratch))


class Copies(pl.Callback):
    """Copies what has changed when an epoch has ended, and on leaving the context, however the run ended.

    begun: whether the folders are this run's by now; before, nothing is copied.
    """

    def __init__(self, *folders: Made) -> None:
        self.folders = [each for each in folders if each.folder.local is None]
        self.begun = False
        self.copied: dict[Path, tuple[int, int]] = {}
        self.due = 0.0

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self.copy()
        except TrainingError:
            if error is None:  # which says more
                raise

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not at the end of an epoch: Lightning logs its mean training loss after the last of those hooks.
        if not (self.folders and trainer.is_global_zero and trainer.current_epoch) or time.monotonic() < self.due:
            return
        for logger in trainer.loggers:
            logger.save()
        began = time.monotonic()
        try:
            self.copy()
        except TrainingError as error:
            print(f"{error}; tried again after the next epoch", flush=True)
        now = time.monotonic()
        self.due = now + max(APART, SHARE * (now - began))

    def copy(self) -> None:
        """Copy every file that has changed since it was copied.  Raises TrainingError where one cannot be written."""
        if not self.begun:
            return
        for each in self.folders:
            for path in sorted(each.local.rglob("*")):
                if path.is_file() and self.copied.get(path) != (state := _state(path)):
                    each.folder.write(path.relative_to(each.local).as_posix(), path.read_bytes())
                    self.copied[path] = state


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
