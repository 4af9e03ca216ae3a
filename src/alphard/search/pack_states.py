"""What packs go on from when their process was killed: a file a worker in the study's folder, of all its trials."""

import math
import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alphard import checkpoint
from alphard.checkpoint import State
from alphard.errors import TrainingError
from alphard.resume import SHARE
from alphard.search.pack_worker import ENDING, STATES
from alphard.storage import Folder

VERSION = str(torch.__version__)


@dataclass
class Saved:
    """A trial's state in its pack.  meant: the values and the rows that it was trained with."""

    meant: str
    state: State


class States:
    """The states that this worker and others have left, and when they are saved.

    folder:  of the study.
    name:    of this worker's file.
    seconds: at least so many between two; 0 saves after each epoch, None never.
    """

    def __init__(self, folder: Path, name: str, seconds: float | None) -> None:
        self.folder, self.name, self.seconds = Folder(str(folder / STATES), "output_dir"), f"{name}{ENDING}", seconds
        self.due = math.inf if seconds is None else time.monotonic() + seconds
        self.there = False

    def find(self, numbers: Collection[int]) -> dict[int, Saved]:
        """The furthest states of these trials; a file that is torn or another version's is passed over."""
        found: dict[int, Saved] = {}
        assert self.folder.local is not None, "a study is a folder on a disk"
        for path in sorted(self.folder.local.glob(f"*{ENDING}"), key=_age) if numbers else ():
            for number, saved in _read(path).items():  # the youngest file is read last
                if number in numbers:
                    found[number] = saved
        return found

    def save(self, states: Mapping[int, Saved]) -> None:
        """Write what a process that takes this one's place needs; without trials, the file goes."""
        began = time.monotonic()
        try:
            if not states:
                self.folder.remove(self.name)
            else:
                members = {number: {"meant": saved.meant, "state": saved.state} for number, saved in states.items()}
                self.folder.write(self.name, checkpoint.dumps({"version": VERSION, "members": members}))
        except TrainingError as error:
            print(f"{error}; tried again after the next epoch", flush=True)
        now = time.monotonic()
        if self.seconds is not None:
            self.due = now + (max(self.seconds, SHARE * (now - began)) if self.seconds else 0.0)
        self.there = bool(states)

    @property
    def wanted(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self.due


def _read(path: Path) -> dict[int, Saved]:
    try:
        state = checkpoint.loads(path.read_bytes())
        if state.get("version") != VERSION:
            raise ValueError(f"was written by torch {state.get('version')}")
        members: dict[int, Any] = state["members"]
        return {number: Saved(member["meant"], member["state"]) for number, member in members.items()}
    except FileNotFoundError:  # its search has just ended
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"{path} {error}; its trials begin anew", stacklevel=2)
        return {}


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
